//! Frames that the server sends: always final, never masked (RFC 6455 §5.2).
//!
//! A data frame is its header and the payload as it was published, so only the header is built
//! here, and one copy serves every client. A control frame is small and is built whole, in an array
//! on the stack. Lengths take the fewest bytes, as the RFC demands.

use serde::{Deserialize, Serialize};

use super::{Kind, close::CloseReason};

/// Longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;
/// Longest text in a Close frame: the code takes two bytes.
pub const CLOSE_TEXT_BYTES_MAX: usize = CONTROL_PAYLOAD_BYTES_MAX - 2;
/// Longest header of a frame that is not masked.
pub const HEADER_BYTES_MAX: usize = 10;

pub(super) const FIN: u8 = 0x80;
/// RSV1, assigned by permessage-deflate: the message is compressed (RFC 7692 §6).
pub(super) const COMPRESSED: u8 = 0x40;
pub(super) const OPCODE_CONTINUATION: u8 = 0x0;
pub(super) const OPCODE_TEXT: u8 = 0x1;
pub(super) const OPCODE_BINARY: u8 = 0x2;
pub(super) const OPCODE_CLOSE: u8 = 0x8;
pub(super) const OPCODE_PING: u8 = 0x9;
pub(super) const OPCODE_PONG: u8 = 0xA;

/// The kinds of control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ControlKind {
    /// Begins or answers the end of the connection.
    Close,
    /// Asks for a Pong with the same payload.
    Ping,
    /// Answers a Ping, or is an unsolicited sign of life.
    Pong,
}

/// The header of a data frame: 2, 4 or 10 bytes.
#[derive(Clone, Copy, Debug)]
pub struct DataHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

/// A whole control frame.
#[derive(Clone, Copy, Debug)]
pub struct ControlFrame {
    bytes: [u8; 2 + CONTROL_PAYLOAD_BYTES_MAX],
    len: u8,
}

/// The header of a message of `payload_len` bytes in one frame.
#[must_use]
pub fn data_header(kind: Kind, payload_len: usize) -> DataHeader {
    let opcode = match kind {
        Kind::Text => OPCODE_TEXT,
        Kind::Binary => OPCODE_BINARY,
    };
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = FIN | opcode;
    let len = if payload_len <= CONTROL_PAYLOAD_BYTES_MAX {
        bytes[1] = payload_len as u8;
        2
    } else if let Ok(short) = u16::try_from(payload_len) {
        bytes[1] = 126;
        bytes[2..4].copy_from_slice(&short.to_be_bytes());
        4
    } else {
        bytes[1] = 127;
        bytes[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
        10
    };
    DataHeader { bytes, len }
}

/// A control frame.
///
/// # Panics
/// When `payload` is longer than [`CONTROL_PAYLOAD_BYTES_MAX`]: a bug of the caller. A Ping's
/// payload always fits.
#[must_use]
pub fn control(opcode: ControlKind, payload: &[u8]) -> ControlFrame {
    assert!(payload.len() <= CONTROL_PAYLOAD_BYTES_MAX, "a control frame's payload is short");
    let opcode = match opcode {
        ControlKind::Close => OPCODE_CLOSE,
        ControlKind::Ping => OPCODE_PING,
        ControlKind::Pong => OPCODE_PONG,
    };
    let mut bytes = [0; 2 + CONTROL_PAYLOAD_BYTES_MAX];
    bytes[0] = FIN | opcode;
    bytes[1] = payload.len() as u8;
    bytes[2..2 + payload.len()].copy_from_slice(payload);
    ControlFrame { bytes, len: 2 + payload.len() as u8 }
}

/// A Close frame; `text` is cut to what fits, at a character's boundary.
#[must_use]
pub fn close(code: u16, text: &str) -> ControlFrame {
    let mut cut = text.len().min(CLOSE_TEXT_BYTES_MAX);
    while !text.is_char_boundary(cut) {
        cut -= 1;
    }
    let text = &text.as_bytes()[..cut];
    let mut payload = [0; CONTROL_PAYLOAD_BYTES_MAX];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + text.len()].copy_from_slice(text);
    control(ControlKind::Close, &payload[..2 + text.len()])
}

/// The Close frame that gives `reason` with its fixed text. `None` where the table has no code: a
/// client's own close is echoed instead, and a lost connection gets none.
#[must_use]
pub fn close_for(reason: CloseReason) -> Option<ControlFrame> {
    reason.code().map(|code| close(code, reason.text()))
}

/// The answer to a Close frame without a code.
#[must_use]
pub fn close_empty() -> ControlFrame {
    control(ControlKind::Close, &[])
}

impl DataHeader {
    /// Marks the payload as compressed (RFC 7692 §6).
    #[must_use]
    pub fn compressed(mut self) -> Self {
        self.bytes[0] |= COMPRESSED;
        self
    }
}

impl AsRef<[u8]> for DataHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for ControlFrame {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_headers_take_the_fewest_bytes_at_every_border() {
        let table: [(usize, &[u8]); 7] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65_535, &[0x81, 126, 0xFF, 0xFF]),
            (65_536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (16 << 20, &[0x81, 127, 0, 0, 0, 0, 1, 0, 0, 0]),
            (0x7FFF_FFFF, &[0x81, 127, 0, 0, 0, 0, 0x7F, 0xFF, 0xFF, 0xFF]),
        ];
        for (len, bytes) in table {
            assert_eq!(data_header(Kind::Text, len).as_ref(), bytes, "{len}");
        }
        assert_eq!(data_header(Kind::Binary, 5).as_ref(), [0x82, 5]);
    }

    #[test]
    fn control_frames_are_final_and_unmasked() {
        assert_eq!(control(ControlKind::Ping, b"hi").as_ref(), b"\x89\x02hi");
        assert_eq!(control(ControlKind::Pong, b"").as_ref(), b"\x8a\x00");
        assert_eq!(control(ControlKind::Close, b"\x03\xe8").as_ref(), b"\x88\x02\x03\xe8");
        assert_eq!(control(ControlKind::Pong, &[7; 125]).as_ref().len(), 127);
    }

    #[test]
    #[should_panic(expected = "payload is short")]
    fn a_control_frame_of_126_bytes_is_refused_as_a_bug() {
        let _ = control(ControlKind::Ping, &[0; 126]);
    }

    #[test]
    fn a_close_frame_carries_code_and_text() {
        assert_eq!(close(1001, "bye").as_ref(), b"\x88\x05\x03\xe9bye");
        assert_eq!(close_empty().as_ref(), b"\x88\x00");
    }

    #[test]
    fn a_long_close_text_is_cut_between_characters() {
        let frame = close(1000, &"a".repeat(200));
        assert_eq!(frame.as_ref().len(), 127);
        // 122 bytes, then a character of two: it would end past the border.
        let text = format!("{}é and more", "a".repeat(122));
        let frame = close(1000, &text);
        assert_eq!(&frame.as_ref()[4..], "a".repeat(122).as_bytes());
    }

    #[test]
    fn every_reason_with_a_code_has_its_frame() {
        for reason in CloseReason::ALL {
            let frame = close_for(reason);
            assert_eq!(frame.is_some(), reason.code().is_some(), "{reason:?}");
            if let (Some(frame), Some(code)) = (frame, reason.code()) {
                assert_eq!(frame.as_ref()[2..4], code.to_be_bytes());
                assert_eq!(&frame.as_ref()[4..], reason.text().as_bytes());
            }
        }
    }
}
