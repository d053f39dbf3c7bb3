//! A server's WebSocket frames, read in place from whatever the socket gave.
//!
//! Only what a load client needs: where messages end, the first bytes of each (the stamp), and
//! control frames. Payloads are skipped, never copied, unless they are compressed; a client holds
//! bytes only while a frame's first bytes are split between two reads. No IO, no clock.

use crate::{
    form::{self, Event},
    inflate::inflated,
    stamp::Stamp,
};

/// The longest prefix of a payload that is looked at: a stamp fits, also behind channel and
/// position.
const PREFIX_BYTES_MAX: u64 = 256;
/// Of a control frame (RFC 6455 §5.5).
const CONTROL_BYTES_MAX: u64 = 125;

/// RSV1: the message is compressed.
const COMPRESSED: u8 = 0x40;
const OPCODE_CONTINUATION: u8 = 0;
const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;
const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

/// The server broke RFC 6455; what follows cannot be told apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FrameError(
    /// The server's fault.
    pub(crate) &'static str,
);

/// One client's place in its stream.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    /// A frame's first bytes, until header and prefix are whole. Mostly empty.
    partial: Vec<u8>,
    /// Payload bytes of the current frame still to come.
    skip: u64,
    /// The current frame ends its message once skipped.
    ends_message: bool,
    message: Option<Message>,
    /// Payloads stand in messages of the subprotocol.
    in_json: bool,
}

#[derive(Debug, Default)]
struct Message {
    stamp: Option<Stamp>,
    payload_bytes: u64,
}

#[derive(Clone, Copy)]
struct Header {
    is_final: bool,
    is_compressed: bool,
    opcode: u8,
    header_bytes: usize,
    payload_bytes: u64,
}

impl Header {
    /// None: more bytes are needed.
    #[inline]
    fn parse(bytes: &[u8]) -> Result<Option<Self>, FrameError> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let is_compressed = first & 0x70 == COMPRESSED;
        if first & 0x70 != 0 && !is_compressed {
            return Err(FrameError("reserved bits are set"));
        }
        if second & 0x80 != 0 {
            return Err(FrameError("a server's frame is masked"));
        }
        let (header_bytes, payload_bytes) = match second & 0x7f {
            126 => match rest.first_chunk() {
                Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(length) => (10, u64::from_be_bytes(*length)),
                None => return Ok(None),
            },
            length => (2, u64::from(length)),
        };
        Ok(Some(Self {
            is_final: first & 0x80 != 0,
            is_compressed,
            opcode: first & 0x0f,
            header_bytes,
            payload_bytes,
        }))
    }

    /// Bytes of header and looked-at prefix; a compressed frame is looked at as a whole.
    fn wanted_bytes(&self) -> usize {
        if self.is_compressed {
            return self.header_bytes + self.payload_bytes as usize;
        }
        self.header_bytes + self.payload_bytes.min(PREFIX_BYTES_MAX) as usize
    }

    fn frame_bytes(&self) -> usize {
        self.header_bytes.saturating_add(self.payload_bytes as usize)
    }

    /// An unfragmented text or binary message, all of it at the start of `bytes`.
    #[inline]
    fn is_whole_message(&self, bytes: &[u8]) -> bool {
        self.is_final
            && !self.is_compressed
            && matches!(self.opcode, OPCODE_TEXT | OPCODE_BINARY)
            && bytes.len() >= self.frame_bytes()
    }
}

impl FrameReader {
    /// A reader of `wsbcast.v1`.
    pub(crate) fn in_json() -> Self {
        Self { in_json: true, ..Self::default() }
    }

    /// The facts about a message that its start shows.
    fn look(&self, prefix: &[u8], message_bytes: u64) -> Message {
        let (stamp, payload_bytes) = match self.in_json {
            true => form::in_json(prefix, message_bytes),
            false => (Stamp::decode(prefix), message_bytes),
        };
        Message { stamp, payload_bytes }
    }

    /// Takes what the socket gave and tells `sink` what it contained, in order.
    pub(crate) fn read(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), FrameError> {
        loop {
            if self.skip > 0 {
                bytes = self.skip_payload(bytes, sink);
            }
            if bytes.is_empty() {
                return Ok(());
            }
            if !self.partial.is_empty() {
                bytes = self.complete_partial(bytes, sink)?;
                continue;
            }
            match Header::parse(bytes)? {
                // Nearly every frame: a whole message that the read brought in one piece.
                Some(header) if self.message.is_none() && header.is_whole_message(bytes) => {
                    let (frame, rest) = bytes.split_at(header.frame_bytes());
                    let payload = &frame[header.header_bytes..];
                    let Message { stamp, payload_bytes } = self.look(payload, header.payload_bytes);
                    sink(Event::Message { stamp, payload_bytes });
                    bytes = rest;
                }
                Some(header) if bytes.len() >= header.wanted_bytes() => {
                    let (prefix, rest) = bytes.split_at(header.wanted_bytes());
                    self.begin(header, &prefix[header.header_bytes..], sink)?;
                    bytes = rest;
                }
                _ => {
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                }
            }
        }
    }

    /// Tops up the split first bytes of a frame, no further than they reach.
    fn complete_partial<'a>(
        &mut self,
        mut bytes: &'a [u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<&'a [u8], FrameError> {
        while !bytes.is_empty() {
            let header = Header::parse(&self.partial)?;
            // A header grows by one byte at a time: it is rarely split, and short.
            let wanted = header.map_or(self.partial.len() + 1, |header| header.wanted_bytes());
            let (taken, rest) = bytes.split_at(bytes.len().min(wanted - self.partial.len()));
            self.partial.extend_from_slice(taken);
            bytes = rest;
            let whole = Header::parse(&self.partial)?
                .filter(|header| header.wanted_bytes() == self.partial.len());
            if let Some(header) = whole {
                let prefix = std::mem::take(&mut self.partial);
                self.begin(header, &prefix[header.header_bytes..], sink)?;
                break;
            }
        }
        Ok(bytes)
    }

    /// A frame whose header and payload prefix are here.
    #[inline]
    fn begin(
        &mut self,
        header: Header,
        prefix: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), FrameError> {
        if header.is_compressed {
            return self.compressed(header, prefix, sink);
        }
        if header.opcode > OPCODE_BINARY {
            return control(header, prefix, sink);
        }
        if (header.opcode == OPCODE_CONTINUATION) != self.message.is_some() {
            return Err(FrameError("a fragment without its message, or the other way round"));
        }
        let message = match self.message.take() {
            None => self.look(prefix, header.payload_bytes),
            Some(begun) => {
                Message { payload_bytes: begun.payload_bytes + header.payload_bytes, ..begun }
            }
        };
        self.skip = header.payload_bytes - prefix.len() as u64;
        if self.skip == 0 && header.is_final {
            let Message { stamp, payload_bytes } = message;
            sink(Event::Message { stamp, payload_bytes });
        } else {
            self.ends_message = header.is_final;
            self.message = Some(message);
        }
        Ok(())
    }

    /// A compressed message, which no server splits into frames.
    fn compressed(
        &mut self,
        header: Header,
        payload: &[u8],
        sink: &mut impl FnMut(Event<'_>),
    ) -> Result<(), FrameError> {
        let is_data = (OPCODE_CONTINUATION + 1..=OPCODE_BINARY).contains(&header.opcode);
        if !header.is_final || !is_data || self.message.is_some() {
            return Err(FrameError("a compressed frame that is no whole message"));
        }
        let (stamp, payload_bytes) =
            inflated(payload).ok_or(FrameError("a compressed message that is none"))?;
        sink(Event::Message { stamp, payload_bytes });
        Ok(())
    }

    fn skip_payload<'a>(&mut self, bytes: &'a [u8], sink: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        if self.skip == 0
            && self.ends_message
            && let Some(Message { stamp, payload_bytes }) = self.message.take()
        {
            sink(Event::Message { stamp, payload_bytes });
        }
        &bytes[skipped as usize..]
    }
}

fn control(
    header: Header,
    payload: &[u8],
    sink: &mut impl FnMut(Event<'_>),
) -> Result<(), FrameError> {
    if !header.is_final || header.payload_bytes > CONTROL_BYTES_MAX {
        return Err(FrameError("a control frame is fragmented or too long"));
    }
    match header.opcode {
        OPCODE_PING => sink(Event::Ping(payload)),
        OPCODE_CLOSE => {
            sink(Event::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))));
        }
        OPCODE_PONG => {}
        _ => return Err(FrameError("an unknown opcode")),
    }
    Ok(())
}

/// A client's control frame.
pub(crate) fn client_control(opcode: ControlOpcode, payload: &[u8]) -> Vec<u8> {
    client_frame(0x80 | opcode as u8, &payload[..payload.len().min(CONTROL_BYTES_MAX as usize)])
}

/// A client's frame with this first byte and a payload of at most 125 bytes. The mask is zero:
/// legal, and there is no proxy here to protect.
///
/// # Panics
/// If the payload is longer.
pub fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() <= CONTROL_BYTES_MAX as usize, "a short frame");
    let mut frame = vec![first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(payload);
    frame
}

/// The frames that a load client sends after its handshake.
#[derive(Clone, Copy)]
pub(crate) enum ControlOpcode {
    /// The end of what it says.
    Close = OPCODE_CLOSE as isize,
    /// The answer to a ping.
    Pong = OPCODE_PONG as isize,
}

#[cfg(test)]
mod tests;
