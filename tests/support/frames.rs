//! RFC 6455 frames by hand: masked ones out, also wrong ones, and the server's ones in.
//!
//! Written apart from the server's own encoder and decoder, so that a shared mistake can't hide.

/// Opcode of a continuation frame.
pub(crate) const CONTINUATION: u8 = 0x0;
/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub(crate) const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub(crate) const PING: u8 = 0x9;
/// Opcode of a pong.
pub(crate) const PONG: u8 = 0xA;

const MASK_KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A frame as the server sent it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) fin: bool,
    /// RSV1: the payload is compressed. It never is unless the client has offered that.
    pub(crate) compressed: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The payload as text, for messages and failures.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// Code and reason of a close frame.
    pub(crate) fn close(&self) -> (u16, String) {
        assert_eq!(self.opcode, CLOSE, "a close frame, not {self:?}");
        let Some((code, reason)) = self.payload.split_first_chunk::<2>() else {
            return (1005, String::new());
        };
        let reason = std::str::from_utf8(reason).expect("a close reason is UTF-8");
        (u16::from_be_bytes(*code), reason.to_owned())
    }
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.text();
        let start: String = text.chars().take(60).collect();
        let length = self.payload.len();
        write!(f, "frame(fin {}, opcode {:#x}, {length} B, {start:?})", self.fin, self.opcode)
    }
}

/// A masked frame, as a client sends it.
pub(crate) fn masked(fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(if fin { 0x80 | opcode } else { opcode }, true, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK_KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// A masked close frame.
pub(crate) fn masked_close(code: u16, reason: &str) -> Vec<u8> {
    masked(true, CLOSE, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A head made of any first byte (fin, reserved bits, opcode), with the mask key if `mask`.
pub(crate) fn head(first: u8, mask: bool, length: u64) -> Vec<u8> {
    let mask_bit = if mask { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(mask_bit | length as u8),
        126..=0xFFFF => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    if mask {
        bytes.extend(MASK_KEY);
    }
    bytes
}

/// Bytes read and not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    taken: usize,
    /// permessage-deflate was agreed upon.
    pub(crate) compression: bool,
}

impl Inbox {
    /// More bytes from the socket.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes that have not been taken.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.taken..]
    }

    /// Takes `length` bytes if they are here.
    pub(crate) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        let bytes = self.rest().get(..length)?.to_vec();
        self.taken += length;
        Some(bytes)
    }

    /// Takes all up to and including `end`, if it is here.
    pub(crate) fn take_through(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        let at = self.rest().windows(end.len()).position(|window| window == end)?;
        self.take(at + end.len())
    }

    /// Takes one whole server frame; panics at what a server may never send.
    pub(crate) fn take_frame(&mut self) -> Option<Frame> {
        let rest = self.rest();
        let (&[first, second], rest) = rest.split_first_chunk::<2>()?;
        assert_eq!(second & 0x80, 0, "a server never masks");
        let compressed = first & 0x40 != 0;
        assert_eq!(first & 0x30, 0, "no reserved bit without an extension");
        assert!(self.compression || !compressed, "no compression that was not agreed upon");
        let (length, head_bytes) = match second {
            126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
            127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
            short => (u64::from(short), 2),
        };
        let length = usize::try_from(length).expect("a frame fits memory");
        if self.rest().len() < head_bytes + length {
            return None;
        }
        let payload = self.rest()[head_bytes..head_bytes + length].to_vec();
        self.taken += head_bytes + length;
        let frame = Frame { fin: first & 0x80 != 0, compressed, opcode: first & 0x0F, payload };
        assert!(!compressed || frame.opcode < 8, "control frames are never compressed: {frame:?}");
        assert!(frame.opcode < 8 || frame.fin, "control frames are never fragmented: {frame:?}");
        Some(frame)
    }
}
