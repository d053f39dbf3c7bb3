//! The encodings in which a message tells more than its payload: `wsbcast.v1` and server-sent
//! events.
//!
//! Written once per shard and message into a buffer that is used again and again. Sources: the
//! subprotocol's page, `docs/protocol-v1.md`; the HTML standard, "Server-sent
//! events", section 9.2.5 (the event stream format).

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    broker::{Missed, Position, Publication},
    channel::ChannelName,
    limits::CODEC_KEPT_BYTES_MAX,
    ws::Kind,
};

/// Empties `text`; a buffer that one large message has grown is not kept for ever.
fn reuse(text: &mut Vec<u8>) {
    text.clear();
    text.shrink_to(CODEC_KEPT_BYTES_MAX);
}

/// A message of the subprotocol `wsbcast.v1`.
pub(in crate::conn) fn v1_message(message: &Publication, text: &mut Vec<u8>) {
    reuse(text);
    v1_opening(message, text);
    match message.kind {
        Kind::Text => {
            let data = std::str::from_utf8(&message.data).unwrap_or_default();
            serde_json::to_writer(&mut *text, data).expect("a string can be written to memory");
        }
        Kind::Binary => {
            text.push(b'"');
            put_base64(text, &message.data);
            text.push(b'"');
        }
    }
    text.push(b'}');
}

/// The text before the string that is its data.
pub(in crate::conn) fn v1_opening(message: &Publication, text: &mut Vec<u8>) {
    text.extend_from_slice(b"{\"type\":\"message\",\"channel\":\"");
    // Names and epochs hold nothing that JSON escapes.
    text.extend_from_slice(message.channel.as_str().as_bytes());
    match &message.position {
        Some(position) => {
            put(
                text,
                format_args!("\",\"epoch\":\"{}\",\"offset\":{}", position.epoch, position.offset),
            );
        }
        None => text.extend_from_slice(b"\",\"scope\":\"local\""),
    }
    text.extend_from_slice(match message.kind {
        Kind::Text => b",\"data\":",
        Kind::Binary => b",\"encoding\":\"base64\",\"data\":",
    });
}

/// A message as a server-sent event.
pub(in crate::conn) fn sse_event(message: &Publication, text: &mut Vec<u8>) {
    reuse(text);
    sse_opening_of(message, text);
    match message.kind {
        Kind::Text => put_lines_begun(text, &message.data),
        Kind::Binary => {
            put_base64(text, &message.data);
            text.push(b'\n');
        }
    }
    text.push(b'\n');
}

/// The text before its data.
pub(in crate::conn) fn sse_opening_of(message: &Publication, text: &mut Vec<u8>) {
    if let Some(position) = &message.position {
        put(text, format_args!("id: {position}\n"));
    }
    text.extend_from_slice(match message.kind {
        Kind::Text => b"data: ",
        Kind::Binary => b"event: binary\ndata: ",
    });
}

/// A gap, as a message of `wsbcast.v1`.
pub(in crate::conn) fn v1_gap(channel: &ChannelName, missed: &Missed, text: &mut Vec<u8>) {
    reuse(text);
    put_gap(text, channel, missed);
}

/// A gap, as a server-sent event of the name `gap`.
pub(in crate::conn) fn sse_gap(channel: &ChannelName, missed: &Missed, text: &mut Vec<u8>) {
    reuse(text);
    text.extend_from_slice(b"event: gap\ndata: ");
    put_gap(text, channel, missed);
    text.extend_from_slice(b"\n\n");
}

/// The beginning of an event stream: how long to wait after its end, then a greeting if there is
/// one. It has no id: it is no message.
pub(in crate::conn) fn sse_opening(retry_ms: u64, greeting: Option<&str>) -> Vec<u8> {
    let mut text = Vec::new();
    put(&mut text, format_args!("retry: {retry_ms}\n\n"));
    if let Some(greeting) = greeting {
        put_lines(&mut text, greeting.as_bytes());
        text.push(b'\n');
    }
    text
}

/// The position at which a stream begins. An id without data is no event to a browser, which still
/// resumes from it: so a client that has got no message yet misses none either.
pub(in crate::conn) fn sse_position(position: &Position) -> Vec<u8> {
    format!("id: {position}\n\n").into()
}

/// The end of a stream at the end of a drain; EventSource obeys the `retry`.
pub(in crate::conn) fn sse_drain(retry_ms: u64) -> Vec<u8> {
    let data = format_args!("{{\"reconnect_after_ms\":{retry_ms}}}");
    format!("retry: {retry_ms}\nevent: drain\ndata: {data}\n\n").into()
}

/// A comment: the closest that an event stream has to a ping.
pub(in crate::conn) const SSE_HEARTBEAT: &[u8] = b":\n\n";

fn put_gap(text: &mut Vec<u8>, channel: &ChannelName, missed: &Missed) {
    put(text, format_args!("{{\"type\":\"gap\",\"channel\":\"{channel}\",\"epoch\":"));
    match &missed.epoch {
        Some(epoch) => put(text, format_args!("\"{epoch}\"")),
        None => text.extend_from_slice(b"null"),
    }
    put(text, format_args!(",\"from\":{},\"to\":", missed.from));
    match missed.to {
        Some(to) => put(text, format_args!("{to}}}")),
        None => text.extend_from_slice(b"null}"),
    }
}

/// A `data:` line for each line of `data`; a carriage return ends one, too.
fn put_lines(text: &mut Vec<u8>, data: &[u8]) {
    text.extend_from_slice(b"data: ");
    put_lines_begun(text, data);
}

/// The same behind the first `data: `.
fn put_lines_begun(text: &mut Vec<u8>, data: &[u8]) {
    let mut lines = data;
    loop {
        let end = lines.iter().position(|byte| b"\r\n".contains(byte));
        let (line, after) = lines.split_at(end.unwrap_or(lines.len()));
        text.extend_from_slice(line);
        text.push(b'\n');
        if end.is_none() {
            return;
        }
        text.extend_from_slice(b"data: ");
        lines = after.strip_prefix(b"\r\n").unwrap_or_else(|| &after[1..]);
    }
}

pub(in crate::conn) fn put_base64(text: &mut Vec<u8>, data: &[u8]) {
    let start = text.len();
    text.resize(start + data.len().div_ceil(3) * 4, 0);
    STANDARD.encode_slice(data, &mut text[start..]).expect("there is room for all of it");
}

pub(in crate::conn) fn put(text: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words).expect("memory takes everything");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: Kind, data: &'static [u8], position: Option<&str>) -> Publication {
        Publication {
            channel: ChannelName::new("a:b").unwrap(),
            kind,
            data: data.into(),
            position: position.map(|text| text.parse().unwrap()),
        }
    }

    fn v1(message: &Publication) -> String {
        let mut text = b"from before".to_vec();
        v1_message(message, &mut text);
        String::from_utf8(text).unwrap()
    }

    fn sse(message: &Publication) -> String {
        let mut text = Vec::new();
        sse_event(message, &mut text);
        String::from_utf8(text).unwrap()
    }

    /// The check of the options at the start relies on it.
    #[test]
    fn no_encoding_is_longer_than_it_is_reckoned() {
        use crate::limits::{CHANNEL_NAME_BYTES_MAX, ENCODED_EXTRA_BYTES_MAX, EPOCH_BYTES_MAX};
        const LENGTH: usize = 1000;
        let longest = format!("{}:{}", "e".repeat(EPOCH_BYTES_MAX), crate::limits::OFFSET_MAX);
        let bytes = (0..=u8::MAX).map(|byte| vec![byte; LENGTH]);
        for data in bytes.chain([b"\r\n".repeat(LENGTH / 2), "\u{2028}".repeat(300).into()]) {
            let is_text = str::from_utf8(&data).is_ok();
            for kind in if is_text { vec![Kind::Text, Kind::Binary] } else { vec![Kind::Binary] } {
                let message = Publication {
                    channel: ChannelName::new(&"c".repeat(CHANNEL_NAME_BYTES_MAX)).unwrap(),
                    kind,
                    data: data.clone().into(),
                    position: Some(longest.parse().unwrap()),
                };
                let most =
                    (data.len() + 1) * crate::limits::ENCODED_FACTOR_MAX + ENCODED_EXTRA_BYTES_MAX;
                for encoded in [v1(&message), sse(&message)] {
                    assert!(encoded.len() <= most, "{} of {:?}", encoded.len(), data[0]);
                }
            }
        }
    }

    /// A v1 message tells channel and position and holds any text.
    #[test]
    fn a_v1_message_has_channel_and_position() {
        assert_eq!(
            v1(&message(Kind::Text, b"say \"hi\"\n\x00", Some("e1:42"))),
            concat!(
                r#"{"type":"message","channel":"a:b","epoch":"e1","offset":42,"#,
                r#""data":"say \"hi\"\n\u0000"}"#
            )
        );
        assert_eq!(
            v1(&message(Kind::Text, b"", None)),
            r#"{"type":"message","channel":"a:b","scope":"local","data":""}"#
        );
        assert_eq!(
            v1(&message(Kind::Binary, b"\xff\x00", Some("e1:1"))),
            concat!(
                r#"{"type":"message","channel":"a:b","epoch":"e1","offset":1,"#,
                r#""encoding":"base64","data":"/wA="}"#
            )
        );
    }

    #[test]
    fn a_gap_is_told_with_what_is_known_of_it() {
        let channel = ChannelName::new("a").unwrap();
        let mut text = Vec::new();
        let known = Missed { epoch: Some("e".into()), from: 3, to: Some(5), sure: false };
        v1_gap(&channel, &known, &mut text);
        assert_eq!(text, br#"{"type":"gap","channel":"a","epoch":"e","from":3,"to":5}"#);
        sse_gap(&channel, &Missed { epoch: None, from: 3, to: None, sure: false }, &mut text);
        let told = r#"{"type":"gap","channel":"a","epoch":null,"from":3,"to":null}"#;
        let expected = format!("event: gap\ndata: {told}\n\n");
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }

    /// A stream begins with its retry time and ends in a drain with another.
    #[test]
    fn a_stream_begins_and_ends_with_a_retry_time() {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert_eq!(text(sse_opening(2000, None)), "retry: 2000\n\n");
        let greeted = text(sse_opening(2000, Some("hello\nthere")));
        assert_eq!(greeted, "retry: 2000\n\ndata: hello\ndata: there\n\n");
        assert_eq!(text(sse_position(&"e:7".parse().unwrap())), "id: e:7\n\n");
        let drain = "retry: 12\nevent: drain\ndata: {\"reconnect_after_ms\":12}\n\n";
        assert_eq!(text(sse_drain(12)), drain);
    }

    /// An event has an id if it has a position and a line for each line.
    #[test]
    fn an_event_has_an_id_and_a_line_for_each_line() {
        assert_eq!(sse(&message(Kind::Text, b"hi", Some("e:7"))), "id: e:7\ndata: hi\n\n");
        assert_eq!(sse(&message(Kind::Text, b"", None)), "data: \n\n");
        assert_eq!(
            sse(&message(Kind::Text, b"a\nb\r\n\rc\n", None)),
            "data: a\ndata: b\ndata: \ndata: c\ndata: \n\n"
        );
        assert_eq!(
            sse(&message(Kind::Binary, b"\xff", Some("e:8"))),
            "id: e:8\nevent: binary\ndata: /w==\n\n"
        );
    }
}
