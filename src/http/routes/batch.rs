//! `application/x-ndjson`: many messages in one request, a JSON object a line.
//!
//! All lines are checked before anything is sent; a mistake names its line. Then they are handed to
//! the broker in order, as many at a time as `pace` allows, and each result has its line's place in
//! the answer. The most memory that this may take is known, and charged, before the first line is
//! looked at. A later message's fate does not depend on an earlier one's, except that none is begun
//! after the deadline. A long batch lets other tasks have their turn in between.

mod report;

use std::pin::pin;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tokio::task::yield_now;

use self::report::Report;
use crate::{
    broker::{self, IdempotencyKey, Principal},
    channel::ChannelName,
    http::{
        answer::Answer,
        context::Public,
        routes::{
            pace::Pace,
            publication::{self, Refused, bad_channel, invalid, too_big},
            publisher::Publisher,
        },
    },
    limits,
    metrics::PublishFailure,
    ws::Kind,
};

/// A line as it is written. A misspelt key must not send a message somewhere else.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(default, deserialize_with = "text")]
    channel: Option<String>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(default, deserialize_with = "text")]
    key: Option<String>,
}

/// A message to be sent; always text.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) struct Message {
    channel: ChannelName,
    data: Bytes,
    key: Option<IdempotencyKey>,
}

/// The memory that work on `body` may take besides the body itself: copies of its messages, and
/// their results.
pub(in crate::http) fn work_bytes(body: &[u8], has_key: bool) -> usize {
    let lines = body.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let key = if has_key { limits::BATCH_KEY_COST_BYTES } else { 0 };
    let line = limits::BATCH_LINE_COST_BYTES + key + limits::BATCH_RESULT_BYTES_MAX;
    body.len() + lines.min(limits::BATCH_LINES_MAX) * line
}

/// Checks all lines. `channel` is for those that name none; empty lines are skipped. With the
/// batch's `key` a line that has none of its own gets `KEY:NUMBER`, so that the whole batch may be
/// repeated as it is.
pub(in crate::http) async fn parse(
    body: &[u8],
    channel: &ChannelName,
    key: Option<&IdempotencyKey>,
    data_bytes_max: usize,
    publisher: &Publisher,
) -> Result<Vec<Message>, Refused> {
    let mut messages = Vec::new();
    let mut turn_bytes = 0;
    let lines = body.split(|&byte| byte == b'\n').map(trim);
    for (number, text) in (1..).zip(lines).filter(|(_, text)| !text.is_empty()) {
        if messages.len() == limits::BATCH_LINES_MAX {
            return Err(too_big(&format!("at most {} lines", limits::BATCH_LINES_MAX)));
        }
        let key = key.map(|key| format!("{}:{number}", key.as_str()));
        let message = message(text, channel, key).map_err(|mistake| match mistake {
            LineMistake::Channel(hint) => bad_channel(&format!("line {number}: {hint}")),
            LineMistake::Other(hint) => invalid(&format!("line {number}: {hint}")),
        })?;
        if message.data.len() > data_bytes_max {
            let hint = format!("line {number}: at most {data_bytes_max} bytes of data");
            return Err(too_big(&hint));
        }
        publisher.check(&message.channel, &format!("line {number}: "))?;
        messages.push(message);
        turn_bytes += text.len();
        if turn_bytes >= limits::BATCH_TURN_BYTES {
            turn_bytes = 0;
            yield_now().await;
        }
    }
    if messages.is_empty() {
        return Err(invalid("there is no line; send {\"data\":…} on each"));
    }
    Ok(messages)
}

/// Publishes in order. 202 if all were published, else the first failure's status, so that a
/// publisher that looks at nothing else notices. A message that gets no turn at `pace` is not
/// published, and neither are later ones, so that the order of a channel is kept.
pub(in crate::http) async fn publish(
    public: &Public,
    publisher: Principal,
    messages: Vec<Message>,
    pace: &Pace,
) -> Answer {
    let mut report = Report::new(messages.len());
    // Begun in order, and `buffered` polls in order: that is the order the broker keeps.
    let publishing = stream::iter(messages)
        .then(|message| async move {
            let turn = pace.turn(&public.batch_room, message.data.len()).await;
            (message, turn)
        })
        .map(|(message, turn)| async move {
            let turn = turn?;
            let Message { channel, data, key } = message;
            let kind = Kind::Text;
            let message = broker::Message { publisher, channel: channel.clone(), kind, data, key };
            let fate = publication::settle(public, channel, public.broker.publish(message)).await;
            turn.over();
            Some(fate)
        })
        .buffered(limits::BATCH_WINDOW_MAX);
    let mut publishing = pin!(publishing);
    while let Some(fate) = publishing.next().await {
        if fate.is_none() {
            public.metrics.publish_failures.add(PublishFailure::DeadlineExceeded as usize, 1);
        }
        report.add(fate);
        if report.lines.is_multiple_of(limits::BATCH_WINDOW_MIN) {
            yield_now().await;
        }
    }
    report.answer()
}

/// The mistake in a line.
enum LineMistake {
    Channel(String),
    Other(String),
}

/// Where a string is expected, null is not accepted either.
fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(Some)
}

/// Without the white space that JSON allows around it.
fn trim(line: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let start = line.iter().position(|byte| !is_space(byte)).unwrap_or(line.len());
    let end = line.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &line[start..end]
}

/// Names a frequent mistake instead of an object; an object may still be wrong inside.
fn object(text: &[u8]) -> Result<(), LineMistake> {
    let what = match text {
        [b'{', ..] => return Ok(()),
        [0xef, 0xbb, 0xbf, ..] => "begins with a byte order mark (U+FEFF); send UTF-8 without one",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
            "begins with a byte order mark of UTF-16; send UTF-8"
        }
        _ => "no object; each line is one, such as {\"channel\":\"news\",\"data\":\"text\"}",
    };
    Err(LineMistake::Other(what.to_owned()))
}

fn message(
    text: &[u8],
    channel: &ChannelName,
    key: Option<String>,
) -> Result<Message, LineMistake> {
    object(text)?;
    let line: Line<'_> = serde_json::from_slice(text).map_err(|error| mistake(&error))?;
    let channel = match line.channel {
        Some(name) => ChannelName::new(&name)
            .map_err(|error| LineMistake::Channel(format!("channel: {error}")))?,
        None => channel.clone(),
    };
    let key = line.key.or(key).map(|key| IdempotencyKey::new(&key));
    let key = key
        .transpose()
        .map_err(|error| LineMistake::Other(format!("{error}, also with the line's number")))?;
    let raw = line.data.get();
    let data = if raw.starts_with('"') {
        serde_json::from_str::<String>(raw).map_err(|error| mistake(&error))?.into()
    } else {
        compact(raw)
    };
    Ok(Message { channel, data, key })
}

/// serde's words without its place: its line is always 1.
fn mistake(error: &serde_json::Error) -> LineMistake {
    let text = error.to_string();
    let end = text.find(" at line ").unwrap_or(text.len());
    LineMistake::Other(format!("{} (column {})", &text[..end], error.column()))
}

/// Valid JSON without the white space between its parts; numbers and keys stay as written.
fn compact(json: &str) -> Bytes {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |byte: &u8| {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
            return true;
        }
        in_string = *byte == b'"';
        !byte.is_ascii_whitespace()
    };
    json.bytes().filter(keep).collect()
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// It may publish to every channel.
    const ANYBODY: Publisher = Publisher { principal: Principal::Api, rights: None };

    async fn parsed(body: &str) -> Result<Vec<(String, String)>, String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        parse(body.as_bytes(), &ChannelName::default_channel(), None, 64, &ANYBODY)
            .await
            .map(|messages| {
                messages.iter().map(|m| (m.channel.to_string(), text(&m.data))).collect()
            })
            .map_err(|refused| {
                format!("{} {}", refused.1.status().as_u16(), text(refused.1.body()))
            })
    }

    #[tokio::test]
    async fn data_is_a_string_as_it_is_or_any_json_made_compact() {
        let body = [
            r#"{"data":"a\nb"}"#,
            "\r",
            r#" {"channel":"x","data": { "b" : [ 1.50, null ],  "a \" \\": " c " } }"#,
            r#"{"data":null}"#,
            r#"{"data":12345678901234567890123}"#,
        ]
        .join("\n");
        let expected = [
            ("notifications", "a\nb"),
            ("x", r#"{"b":[1.50,null],"a \" \\":" c "}"#),
            ("notifications", "null"),
            ("notifications", "12345678901234567890123"),
        ];
        let expected = expected.map(|(channel, data)| (channel.to_string(), data.to_string()));
        assert_eq!(parsed(&body).await.unwrap(), expected);
    }

    #[tokio::test]
    async fn a_mistake_names_its_line() {
        for (line, status) in [
            ("{\"channel\":\"x\"}", "400"),
            ("{\"data\":1,\"chanel\":\"x\"}", "400"),
            ("{\"data\":1,\"channel\":\"no spaces\"}", "400"),
            ("{\"data\":\"\\ud800\"}", "400"),
            ("[1]", "400"),
            ("{\"data\":1", "400"),
            ("{\"data\":1} x", "400"),
            ("{\"data\":1}{\"data\":2}", "400"),
            ("[\"x\",1]", "400"),
            ("[\"x\",1,\"k\"]", "400"),
            ("{\"data\":1,\"channel\":null}", "400"),
            ("{\"data\":1,\"key\":null}", "400"),
            ("{\"data\":1,\"key\":7}", "400"),
            ("{\"data\":1,\"data\":2}", "400"),
            ("{\"Data\":1}", "400"),
            ("\"text\"", "400"),
            ("null", "400"),
            ("\u{1e}{\"data\":1}", "400"),
            ("\u{c}", "400"),
            ("\u{feff}{\"data\":1}", "400"),
        ] {
            let error = parsed(&format!("{{\"data\":1}}\n\n{line}\n")).await.unwrap_err();
            assert!(error.starts_with(status) && error.contains("line 3"), "{line}: {error}");
        }
        let error = parsed(&format!("{{\"data\":\"{}\"}}", "a".repeat(65))).await.unwrap_err();
        assert!(error.starts_with("413") && error.contains("line 1"), "{error}");
        assert!(parsed("\n \n").await.unwrap_err().starts_with("400"));
    }

    #[tokio::test]
    async fn a_byte_order_mark_is_named() {
        let error = parsed("\u{feff}{\"data\":1}\n").await.unwrap_err();
        assert!(error.contains("line 1: begins with a byte order mark"), "{error}");
        let utf16 =
            parse(b"\xff\xfe{\0", &ChannelName::default_channel(), None, 64, &ANYBODY).await;
        let answer = utf16.unwrap_err().1;
        let hint = str::from_utf8(answer.body()).unwrap();
        assert!(hint.contains("line 1: begins with a byte order mark of UTF-16"), "{hint}");
    }

    #[tokio::test]
    async fn lines_are_bounded() {
        let body = "{\"data\":1}\n".repeat(limits::BATCH_LINES_MAX);
        assert_eq!(parsed(&body).await.unwrap().len(), limits::BATCH_LINES_MAX);
        assert!(parsed(&format!("{body}{{\"data\":1}}")).await.unwrap_err().starts_with("413"));
    }

    #[tokio::test]
    async fn a_long_batch_lets_others_have_their_turn() {
        let line = format!("{{\"data\":\"{}\"}}\n", "a".repeat(50));
        let parses_in_one_turn = |bytes: usize| {
            let body = line.repeat(bytes / line.len());
            let default = ChannelName::default_channel();
            parse(body.as_bytes(), &default, None, 64, &ANYBODY).now_or_never().is_some()
        };
        assert!(parses_in_one_turn(limits::BATCH_TURN_BYTES / 2));
        assert!(!parses_in_one_turn(limits::BATCH_TURN_BYTES * 2));
    }
}
