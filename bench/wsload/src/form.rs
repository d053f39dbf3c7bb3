//! How a server's messages look to a client: the payload alone, or with channel and position.
//!
//! The other forms carry the same payload, stamp first; here is where it begins in each, and the
//! reader of the one that is no WebSocket. Pure.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::stamp::Stamp;

/// The form of messages that clients ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// WebSocket messages as they were published
    #[default]
    Plain,
    /// The subprotocol wsbcast.v1
    V1,
    /// Server-sent events
    Sse,
}

/// An event in the bytes that were read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A message's last byte has arrived.
    Message {
        /// The message's stamp; none: it is not one of this program's.
        stamp: Option<Stamp>,
        /// Of the payload alone, whatever the form.
        payload_bytes: u64,
    },
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// The server closes, with this code.
    Close(Option<u16>),
}

/// The text before the payload in a message of the subprotocol.
const DATA: &[u8] = b"\"data\":\"";
/// It stands no further from the start than this: type, channel, epoch and offset.
const DATA_AT_MAX: usize = 256;
/// The bytes after the payload.
const TAIL_BYTES: u64 = 2;

/// The stamp and size of the payload in a JSON message of which `prefix` is the start.
pub(crate) fn in_json(prefix: &[u8], message_bytes: u64) -> (Option<Stamp>, u64) {
    let head = &prefix[..prefix.len().min(DATA_AT_MAX)];
    let Some(at) = head.windows(DATA.len()).position(|window| window == DATA) else {
        return (None, message_bytes);
    };
    let from = at + DATA.len();
    let payload_bytes = message_bytes.saturating_sub(from as u64 + TAIL_BYTES);
    (Stamp::decode(&prefix[from..]), payload_bytes)
}

/// One client's place in its stream of events.
#[derive(Debug, Default)]
pub(crate) struct EventReader {
    /// A line whose end has not come. Mostly empty.
    partial: Vec<u8>,
    /// The payload of the event under way, as far as it is known.
    event: Option<(Option<Stamp>, u64)>,
}

impl EventReader {
    /// Takes what the socket gave and tells `sink` what messages it contained, in order.
    pub(crate) fn read(&mut self, mut bytes: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            if self.partial.is_empty() {
                self.line(line, sink);
            } else {
                let mut whole = std::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.line(&whole, sink);
            }
            bytes = &rest[1..];
        }
        self.partial.extend_from_slice(bytes);
    }

    fn line(&mut self, line: &[u8], sink: &mut impl FnMut(Event<'_>)) {
        if let Some(data) = line.strip_prefix(b"data: ") {
            let bytes = data.len() as u64;
            self.event = Some(match self.event {
                None => (Stamp::decode(data), bytes),
                Some((stamp, before)) => (stamp, before + 1 + bytes),
            });
        } else if line.is_empty()
            && let Some((stamp, payload_bytes)) = self.event.take()
        {
            sink(Event::Message { stamp, payload_bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 1, publisher: 2, sequence: 3, intended_ns: 4 };

    fn payload(bytes: usize) -> String {
        let mut payload = vec![b'x'; bytes];
        STAMP.encode(&mut payload);
        String::from_utf8(payload).unwrap()
    }

    #[test]
    fn the_payload_in_a_json_message_is_found() {
        let text = format!(
            r#"{{"type":"message","channel":"a","epoch":"e","offset":1,"data":"{}"}}"#,
            payload(100)
        );
        assert_eq!(in_json(text.as_bytes(), text.len() as u64), (Some(STAMP), 100));
        assert_eq!(in_json(b"{\"type\":\"hello\"}", 16), (None, 16));
    }

    #[test]
    fn events_are_read_from_any_pieces() {
        let stream = format!(
            "retry: 2000\n\n:\n\nid: e:1\ndata: {}\n\nid: e:2\ndata: {}\ndata: more\n\n",
            payload(100),
            payload(50)
        );
        for size in 1..stream.len() {
            let (mut reader, mut found) = (EventReader::default(), Vec::new());
            for piece in stream.as_bytes().chunks(size) {
                reader.read(piece, &mut |event| match event {
                    Event::Message { stamp, payload_bytes } => found.push((stamp, payload_bytes)),
                    other => panic!("{other:?}"),
                });
            }
            assert_eq!(found, [(Some(STAMP), 100), (Some(STAMP), 55)], "pieces of {size}");
        }
    }
}
