//! How a publication looks on its Redis channel: a header line, then the payload.
//!
//! `2 t EPOCH OFFSET NONCE PREVIOUS\n…`: version, text or binary, position, the message's nonce
//! and the one of the message before it. The script writes it, every shard's subscriber reads
//! it. Anyone may publish on the channel, so reading trusts nothing: whatever is not exactly this
//! is no publication of ours.

use bytes::Bytes;

use crate::{
    position::{is_empty_epoch, is_epoch, offset_in},
    ws::Kind,
};

/// The version that the script puts in front; an old process must drop messages in a newer form.
pub(crate) const VERSION: &str = "2";

/// Longest header: version, kind, 32 of epoch, 20 of offset and of each nonce, separators.
const HEADER_BYTES_MAX: usize = 128;

/// Nonces are below this: what Lua's numbers hold exactly.
const NONCE_END: u64 = 1 << 53;

/// A publication as it came; the epoch is a view into the payload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Envelope<'a> {
    pub(crate) kind: Kind,
    pub(crate) epoch: &'a str,
    pub(crate) offset: u64,
    /// Tells it from another message that got the same offset after a failover.
    pub(crate) nonce: u64,
    /// The nonce of the message before it; 0 if it is the first.
    pub(crate) previous: u64,
    pub(crate) data: Bytes,
}

/// A message's nonce, never 0.
pub(crate) fn nonce() -> u64 {
    fastrand::u64(1..NONCE_END)
}

/// The letter for `kind`.
pub(in crate::broker::redis) fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "t",
        Kind::Binary => "b",
    }
}

/// Reads a payload; None if it is not one of ours.
pub(crate) fn decode(payload: &Bytes) -> Option<Envelope<'_>> {
    let head = &payload[..payload.len().min(HEADER_BYTES_MAX)];
    let end = head.iter().position(|&byte| byte == b'\n')?;
    let header = std::str::from_utf8(&head[..end]).ok()?;
    let mut words = header.split(' ');
    let (version, kind, epoch) = (words.next()?, words.next()?, words.next()?);
    // Nonces are no larger than offsets.
    let mut number = || offset_in(words.next()?);
    let (offset, nonce, previous) = (number()?, number()?, number()?);
    if version != VERSION || words.next().is_some() || !is_epoch(epoch) || is_empty_epoch(epoch) {
        return None;
    }
    if offset == 0 || nonce == 0 {
        return None;
    }
    let data = payload.slice(end + 1..);
    let kind = kind_of(kind, &data)?;
    Some(Envelope { kind, epoch, offset, nonce, previous, data })
}

/// The kind that `letter` stands for, if it fits `data`.
pub(super) fn kind_of(letter: &str, data: &[u8]) -> Option<Kind> {
    match letter {
        "t" if std::str::from_utf8(data).is_ok() => Some(Kind::Text),
        "b" => Some(Kind::Binary),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::for_each_number;

    #[test]
    fn headers_that_the_script_writes_are_read_back() {
        let payload = Bytes::from_static(b"2 t abc-_9 42 7 8\nhello\nworld");
        let message = decode(&payload).unwrap();
        assert_eq!((message.kind, message.epoch, message.offset), (Kind::Text, "abc-_9", 42));
        assert_eq!((message.nonce, message.previous), (7, 8));
        assert_eq!(message.data, "hello\nworld");
        let binary = Bytes::from_static(b"2 b e 1 7 0\n\xff\n");
        let binary = decode(&binary).unwrap();
        assert_eq!((binary.kind, binary.data.as_ref()), (Kind::Binary, b"\xff\n".as_slice()));
    }

    #[test]
    fn an_empty_payload_is_a_message() {
        assert!(decode(&Bytes::from_static(b"2 t e 1 7 0\n")).unwrap().data.is_empty());
    }

    #[test]
    fn a_strangers_numbers_are_bounded() {
        for_each_number(|text, number| {
            for header in [format!("{text} 7 8"), format!("7 {text} 8"), format!("7 8 {text}")] {
                let payload = Bytes::from(format!("2 t e {header}\nx"));
                let message = decode(&payload);
                if let Some(message) = &message {
                    let numbers = [message.offset, message.nonce, message.previous];
                    assert!(numbers.iter().all(|number| *number < NONCE_END), "{header}");
                }
                let may_be = number.is_some_and(|number| number > 0 || header.ends_with(" 0"));
                assert_eq!(message.is_some(), may_be, "{header}");
            }
        });
    }

    #[test]
    fn foreign_garbage_is_no_publication() {
        let garbage: [&[u8]; 19] = [
            b"",
            b"hi",
            b"\n",
            b"2 t e 1 7 0",
            b"1 t e 1\nx",
            b"1 t e 1 7 0\nx",
            b"2 t e 1\nx",
            b"2 t e 1 7\nx",
            b"2 x e 1 7 0\nx",
            b"2 t e 0 7 0\nx",
            b"2 t e -1 7 0\nx",
            b"2 t e 1 7 0 1\nx",
            b"2 t e 1 0 0\nx",
            b"2 t e! 1 7 0\nx",
            b"2 t empty-e 1 7 0\nx",
            b"2 t  1 7 0\nx",
            b"2 t e 99999999999999999999 7 8\nx",
            b"2 t e 1 7 0\n\xff",
            b"2 t aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1 7 0\nx",
        ];
        for payload in garbage {
            assert_eq!(decode(&Bytes::from_static(payload)), None, "{payload:?}");
        }
    }
}
