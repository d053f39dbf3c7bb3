//! The header of a client's frame: RFC 6455 §5.2, and those rules of §5.1, §5.4 and §5.5 that can
//! be checked by it alone.
//!
//! Each byte is checked when it arrives, not when the header is complete, so a violation of the RFC
//! is found at the same byte however the bytes were cut. The decoder checks the message's length.

use serde::{Deserialize, Serialize};

use super::mask::MaskKey;
use crate::ws::{
    Kind,
    close::CloseReason,
    frame::{self, ControlKind},
};

/// Two bytes, eight for the length, four for the key.
pub(super) const HEADER_BYTES_MAX: usize = 14;

const RESERVED_BITS: u8 = 0x70;
const OPCODE_BITS: u8 = 0x0F;
const MASKED: u8 = 0x80;
const LEN_IN_2_BYTES: u8 = 126;
const LEN_IN_8_BYTES: u8 = 127;

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Carries {
    /// A data message or a fragment of one; a continuation has its message's kind.
    Data(Kind),
    /// A control frame's content.
    Control(ControlKind),
}

/// A frame's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Last (or only) frame of its message.
    pub(super) fin: bool,
    /// First (or only) frame of a compressed message.
    pub(super) compressed: bool,
    /// The kind of the payload.
    pub(super) carries: Carries,
    /// Bytes of payload.
    pub(super) payload_len: u64,
    /// The masking key.
    pub(super) key: MaskKey,
}

/// Reads a header from the start of `bytes`. `underway` is the kind of the fragmented message that
/// has begun, if any; `compression` says whether messages may be compressed, as their first frame
/// tells. Returns the header and its length; `None`: more bytes are needed.
pub(super) fn parse(
    bytes: &[u8],
    underway: Option<Kind>,
    compression: bool,
) -> Result<Option<(Header, usize)>, CloseReason> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let compressed = match first & RESERVED_BITS {
        0 => false,
        frame::COMPRESSED if compression => true,
        _ => return Err(CloseReason::Protocol),
    };
    let fin = first & frame::FIN != 0;
    let carries = carries(first & OPCODE_BITS, fin, underway)?;
    let begins_message = underway.is_none() && matches!(carries, Carries::Data(_));
    if compressed && !begins_message {
        return Err(CloseReason::Protocol);
    }

    let Some((&second, rest)) = rest.split_first() else { return Ok(None) };
    if second & MASKED == 0 {
        return Err(CloseReason::Protocol);
    }
    let short_len = second & !MASKED;
    if matches!(carries, Carries::Control(_))
        && usize::from(short_len) > frame::CONTROL_PAYLOAD_BYTES_MAX
    {
        return Err(CloseReason::Protocol);
    }

    let Some((payload_len, rest)) = payload_len(short_len, rest)? else { return Ok(None) };
    let Some((&key, rest)) = rest.split_first_chunk() else { return Ok(None) };
    let header = Header { fin, compressed, carries, payload_len, key: MaskKey(key) };
    Ok(Some((header, bytes.len() - rest.len())))
}

fn carries(opcode: u8, fin: bool, underway: Option<Kind>) -> Result<Carries, CloseReason> {
    let carries = match (opcode, underway) {
        (frame::OPCODE_CONTINUATION, Some(kind)) => Carries::Data(kind),
        (frame::OPCODE_TEXT, None) => Carries::Data(Kind::Text),
        (frame::OPCODE_BINARY, None) => Carries::Data(Kind::Binary),
        (frame::OPCODE_CLOSE, _) => Carries::Control(ControlKind::Close),
        (frame::OPCODE_PING, _) => Carries::Control(ControlKind::Ping),
        (frame::OPCODE_PONG, _) => Carries::Control(ControlKind::Pong),
        _ => return Err(CloseReason::Protocol),
    };
    let fragmented_control = !fin && matches!(carries, Carries::Control(_));
    if fragmented_control { Err(CloseReason::Protocol) } else { Ok(carries) }
}

/// The payload's length and the remaining bytes. A length in more bytes than it needs violates the
/// RFC's "the minimal number of bytes MUST be used", and no correct client sends one.
fn payload_len(short_len: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, CloseReason> {
    let (len, len_min, rest) = match short_len {
        LEN_IN_2_BYTES => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from(u16::from_be_bytes(*bytes)), u64::from(LEN_IN_2_BYTES), rest)
        }
        LEN_IN_8_BYTES => {
            let Some((bytes, rest)) = rest.split_first_chunk() else { return Ok(None) };
            (u64::from_be_bytes(*bytes), u64::from(u16::MAX) + 1, rest)
        }
        len => (u64::from(len), 0, rest),
    };
    // The top bit must be 0: a length is signed in many languages.
    if len < len_min || i64::try_from(len).is_err() {
        return Err(CloseReason::Protocol);
    }
    Ok(Some((len, rest)))
}
