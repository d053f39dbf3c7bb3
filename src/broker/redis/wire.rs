//! How a publication looks on its Redis channel: a header line, then the payload.
//!
//! `1 t EPOCH OFFSET\n…`: version, text or binary, position. The script writes it, every shard's
//! subscriber reads it. Anyone may publish on the channel, so reading trusts nothing: whatever
//! is not exactly this is no publication of ours.

use bytes::Bytes;

use crate::ws::Kind;

/// What the script puts in front; an old process must drop what a new one writes otherwise.
pub(super) const VERSION: &str = "1";

/// Longest header: version, kind, 32 of epoch, 20 of offset, separators.
const HEADER_BYTES_MAX: usize = 64;
const EPOCH_BYTES_MAX: usize = 32;

/// A publication as it came; the epoch is a view into the payload.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) epoch: &'a str,
    pub(super) offset: u64,
    pub(super) data: Bytes,
}

/// The letter for `kind`.
pub(super) fn letter(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "t",
        Kind::Binary => "b",
    }
}

/// Reads a payload; None if it is none of ours.
pub(super) fn decode(payload: &Bytes) -> Option<Message<'_>> {
    let head = &payload[..payload.len().min(HEADER_BYTES_MAX)];
    let end = head.iter().position(|&byte| byte == b'\n')?;
    let header = std::str::from_utf8(&head[..end]).ok()?;
    let mut words = header.split(' ');
    let (version, kind, epoch, offset) =
        (words.next()?, words.next()?, words.next()?, words.next()?);
    if version != VERSION || words.next().is_some() || !is_epoch(epoch) {
        return None;
    }
    let offset = offset.parse().ok().filter(|&offset| offset > 0)?;
    let data = payload.slice(end + 1..);
    let kind = match kind {
        "t" if std::str::from_utf8(&data).is_ok() => Kind::Text,
        "b" => Kind::Binary,
        _ => return None,
    };
    Some(Message { kind, epoch, offset, data })
}

/// Whether `text` is `[A-Za-z0-9_-]{1,32}`.
pub(super) fn is_epoch(text: &str) -> bool {
    (1..=EPOCH_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_script_writes_is_read_back() {
        let payload = Bytes::from_static(b"1 t abc-_9 42\nhello\nworld");
        let message = decode(&payload).unwrap();
        assert_eq!((message.kind, message.epoch, message.offset), (Kind::Text, "abc-_9", 42));
        assert_eq!(message.data, "hello\nworld");
        let binary = Bytes::from_static(b"1 b e 1\n\xff\n");
        let binary = decode(&binary).unwrap();
        assert_eq!((binary.kind, binary.data.as_ref()), (Kind::Binary, b"\xff\n".as_slice()));
    }

    #[test]
    fn an_empty_payload_is_a_message() {
        assert!(decode(&Bytes::from_static(b"1 t e 1\n")).unwrap().data.is_empty());
    }

    #[test]
    fn foreign_garbage_is_no_publication() {
        let garbage: [&[u8]; 14] = [
            b"",
            b"hi",
            b"\n",
            b"1 t e 1",
            b"2 t e 1\nx",
            b"1 x e 1\nx",
            b"1 t e 0\nx",
            b"1 t e -1\nx",
            b"1 t e 1 1\nx",
            b"1 t e! 1\nx",
            b"1 t  1\nx",
            b"1 t e 99999999999999999999\nx",
            b"1 t e 1\n\xff",
            b"1 t aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 1\nx",
        ];
        for payload in garbage {
            assert_eq!(decode(&Bytes::from_static(payload)), None, "{payload:?}");
        }
    }
}
