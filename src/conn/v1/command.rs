//! The commands of a client of `wsbcast.v1`, read from its JSON: pure.
//!
//! Unknown types and unknown fields are ignored, so that newer clients can speak to older servers.
//! A text that is no message ends the connection; a message that cannot be executed is answered
//! with an error that names its channel and id. Source: `docs/protocol-v1.md` in this repository.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};

use crate::{
    broker::{IdempotencyKey, Position, Since},
    channel::ChannelName,
    conn::{
        command_queue::HiddenToken,
        positions::SubscribeRequest,
        v1::events::{Code, ErrorEvent},
    },
    limits::TOLD_BACK_BYTES_MAX,
    ws::{Kind, close::CloseReason},
};

/// A client's command.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::conn) enum Command {
    Subscribe(SubscribeRequest),
    Unsubscribe(ChannelName),
    Publish {
        channel: ChannelName,
        kind: Kind,
        data: Bytes,
        id: Option<IdempotencyKey>,
    },
    Token(HiddenToken),
    Ping,
    /// A command of an unknown type.
    Unknown,
}

/// Why a command is not executed.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::conn) enum Mistake {
    /// The connection ends.
    Fatal(CloseReason),
    /// The client is told, and continues.
    Told(ErrorEvent),
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    channel: Option<&'a RawValue>,
    #[serde(borrow, default)]
    since: Option<&'a RawValue>,
    #[serde(borrow, default)]
    last: Option<&'a RawValue>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    encoding: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token: Option<&'a RawValue>,
}

/// Reads a text message; `data_bytes_max` is what a publication may have.
pub(in crate::conn) fn read(text: &[u8], data_bytes_max: usize) -> Result<Command, Mistake> {
    let fields = fields(text).map_err(Mistake::Fatal)?;
    let done = match &*fields.kind {
        "subscribe" => fields.subscribe(),
        "unsubscribe" => fields.channel().map(Command::Unsubscribe),
        "publish" => fields.publish(data_bytes_max),
        "token" => fields.token(),
        "ping" => Ok(Command::Ping),
        _ => Ok(Command::Unknown),
    };
    done.map_err(|(code, message)| Mistake::Told(fields.error_event(code, message)))
}

fn fields(text: &[u8]) -> Result<Fields<'_>, CloseReason> {
    let text = text.trim_ascii();
    // An array would do for a struct, too.
    if !text.starts_with(b"{") {
        let is_json = serde_json::from_slice::<IgnoredAny>(text).is_ok();
        return Err(if is_json { CloseReason::Malformed } else { CloseReason::NotJson });
    }
    serde_json::from_slice(text).map_err(|error| match error.classify() {
        Category::Data => CloseReason::Malformed,
        Category::Syntax | Category::Eof | Category::Io => CloseReason::NotJson,
    })
}

type Done<T> = Result<T, (Code, Cow<'static, str>)>;

fn bad<T>(message: &'static str) -> Done<T> {
    Err((Code::BadRequest, message.into()))
}

/// The string that a field holds.
fn string(field: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(field.get()).ok().map(|text| text.0)
}

impl Fields<'_> {
    fn channel(&self) -> Done<ChannelName> {
        let Some(name) = self.channel.and_then(string) else {
            return bad("channel is missing, or no string");
        };
        ChannelName::new(&name).map_err(|error| (Code::BadChannel, error.to_string().into()))
    }

    fn subscribe(&self) -> Done<Command> {
        let channel = self.channel()?;
        let since = match (self.since, self.last) {
            (None, None) => None,
            (Some(_), Some(_)) => return bad("there is since or last, not both"),
            (Some(since), None) => {
                let position = string(since).map(|text| text.parse::<Position>());
                let Some(Ok(position)) = position else {
                    return Err((Code::BadPosition, "since is a string EPOCH:OFFSET".into()));
                };
                Some(Since::After(position))
            }
            (None, Some(last)) => match serde_json::from_str(last.get()) {
                Ok(count) => Some(Since::Newest(count)),
                Err(_) => return bad("last is a number of messages"),
            },
        };
        Ok(Command::Subscribe(SubscribeRequest { channel, since }))
    }

    fn publish(&self, data_bytes_max: usize) -> Done<Command> {
        let channel = self.channel()?;
        let id = match self.id.map(string) {
            None => None,
            Some(text) => match text.map(|text| IdempotencyKey::new(&text)) {
                Some(Ok(id)) => Some(id),
                _ => return bad("id is a string of 1 to 128 visible ASCII characters"),
            },
        };
        let Some(data) = self.data.and_then(string) else {
            return bad("data is missing, or no string");
        };
        let (kind, data) = match self.encoding.map(string) {
            None => (Kind::Text, Bytes::from(data.into_owned())),
            Some(Some(encoding)) if encoding == "base64" => match STANDARD.decode(&*data) {
                Ok(data) => (Kind::Binary, data.into()),
                Err(_) => return bad("data is not base64"),
            },
            Some(_) => return bad("encoding is base64, or left out"),
        };
        if data.len() > data_bytes_max {
            let message = format!("at most {data_bytes_max} bytes; see --max-broadcast-size");
            return Err((Code::TooBig, message.into()));
        }
        Ok(Command::Publish { channel, kind, data, id })
    }

    fn token(&self) -> Done<Command> {
        match self.token.and_then(string) {
            Some(token) => Ok(Command::Token(HiddenToken(token.into()))),
            None => bad("token is missing, or no string"),
        }
    }

    fn error_event(&self, code: Code, message: Cow<'static, str>) -> ErrorEvent {
        // The client's own word is repeated, but not at any length.
        let text = |field: Option<&RawValue>| {
            let mut text = field.and_then(string)?.into_owned();
            let mut end = text.len().min(TOLD_BACK_BYTES_MAX);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            Some(text)
        };
        ErrorEvent { code, message, channel: text(self.channel), id: text(self.id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::position::for_each_number;

    fn name(text: &str) -> ChannelName {
        ChannelName::new(text).unwrap()
    }

    fn of(text: &str) -> Result<Command, Mistake> {
        read(text.as_bytes(), 10)
    }

    #[test]
    fn a_strangers_numbers_are_bounded() {
        for_each_number(|number, expected| {
            let text = format!(r#"{{"type":"subscribe","channel":"a","since":"e:{number}"}}"#);
            let offset = match of(&text) {
                Ok(Command::Subscribe(SubscribeRequest {
                    since: Some(Since::After(it)), ..
                })) => it.offset,
                refused => {
                    assert!(matches!(refused, Err(Mistake::Told(_))), "{number}");
                    return assert_eq!(expected, None, "{number}");
                }
            };
            assert_eq!(Some(offset), expected, "{number}");
        });
    }

    /// Every command is understood and unknown types and fields are left alone.
    #[test]
    fn every_command_is_understood() {
        let wanted = |since| Command::Subscribe(SubscribeRequest { channel: name("a"), since });
        let after = Since::After("e:7".parse().unwrap());
        for (text, command) in [
            (r#"{"type":"subscribe","channel":"a"}"#, wanted(None)),
            (r#" {"channel":"a","type":"subscribe","since":null} "#, wanted(None)),
            (r#"{"type":"subscribe","channel":"a","since":"e:7","x":[1]}"#, wanted(Some(after))),
            (r#"{"type":"subscribe","channel":"a","last":0}"#, wanted(Some(Since::Newest(0)))),
            (r#"{"type":"unsubscribe","channel":"\u0061"}"#, Command::Unsubscribe(name("a"))),
            (r#"{"type":"token","token":"a.b.c"}"#, Command::Token(HiddenToken("a.b.c".into()))),
            (r#"{"type":"ping","channel":7}"#, Command::Ping),
            (r#"{"type":"later","channel":{},"data":[1]}"#, Command::Unknown),
        ] {
            assert_eq!(of(text), Ok(command), "{text}");
        }
    }

    /// A publication is text as it is, or binary from base64.
    #[test]
    fn a_publication_is_text_or_base64() {
        let publish = |kind, data: &'static [u8], id: Option<&str>| Command::Publish {
            channel: name("a"),
            kind,
            data: data.into(),
            id: id.map(|id| IdempotencyKey::new(id).unwrap()),
        };
        for (text, command) in [
            (r#""data":"a\n\"b""#, publish(Kind::Text, b"a\n\"b", None)),
            (r#""data":"","id":"7""#, publish(Kind::Text, b"", Some("7"))),
            (r#""data":"/wA=","encoding":"base64""#, publish(Kind::Binary, b"\xff\x00", None)),
        ] {
            let text = format!(r#"{{"type":"publish","channel":"a",{text}}}"#);
            assert_eq!(of(&text), Ok(command), "{text}");
        }
    }

    #[test]
    fn anything_but_a_message_ends_the_connection() {
        for text in ["", "x", "{", r#"{"type":"ping"} x"#, r#"{"type":"ping",}"#, "'a'", "[1"] {
            assert_eq!(of(text), Err(Mistake::Fatal(CloseReason::NotJson)), "{text}");
        }
        assert_eq!(of(&"[".repeat(1000)), Err(Mistake::Fatal(CloseReason::NotJson)));
        let twice = r#"{"type":"ping","type":"ping"}"#;
        for text in ["1", "null", r#"["ping"]"#, r#""ping""#, "{}", r#"{"type":1}"#, twice] {
            assert_eq!(of(text), Err(Mistake::Fatal(CloseReason::Malformed)), "{text}");
        }
    }

    /// A command that cannot be done is answered with its channel and id.
    #[test]
    fn a_refused_command_names_its_channel_and_id() {
        for (text, code, channel, id) in [
            (r#""subscribe""#, Code::BadRequest, None, None),
            (r#""subscribe","channel":7"#, Code::BadRequest, None, None),
            (r#""subscribe","channel":"a b""#, Code::BadChannel, Some("a b"), None),
            (r#""subscribe","channel":"a","since":"7""#, Code::BadPosition, Some("a"), None),
            (r#""subscribe","channel":"a","since":7"#, Code::BadPosition, Some("a"), None),
            (r#""subscribe","channel":"a","last":-1"#, Code::BadRequest, Some("a"), None),
            (r#""subscribe","channel":"a","last":1.5"#, Code::BadRequest, Some("a"), None),
            (
                r#""subscribe","channel":"a","last":1,"since":"e:1""#,
                Code::BadRequest,
                Some("a"),
                None,
            ),
            (r#""token""#, Code::BadRequest, None, None),
            (r#""token","token":7"#, Code::BadRequest, None, None),
            (r#""unsubscribe","channel":"""#, Code::BadChannel, Some(""), None),
            (r#""publish","channel":"a","id":"1""#, Code::BadRequest, Some("a"), Some("1")),
            (r#""publish","channel":"a","data":1"#, Code::BadRequest, Some("a"), None),
            (r#""publish","channel":"a","data":"\ud800""#, Code::BadRequest, Some("a"), None),
            (
                r#""publish","channel":"a","data":"","id":" ""#,
                Code::BadRequest,
                Some("a"),
                Some(" "),
            ),
            (r#""publish","channel":"a","data":"","id":1"#, Code::BadRequest, Some("a"), None),
            (
                r#""publish","channel":"a","data":"=","encoding":"base64""#,
                Code::BadRequest,
                Some("a"),
                None,
            ),
            (
                r#""publish","channel":"a","data":"","encoding":"hex""#,
                Code::BadRequest,
                Some("a"),
                None,
            ),
            (r#""publish","channel":"a","data":"01234567890""#, Code::TooBig, Some("a"), None),
        ] {
            let Err(Mistake::Told(told)) = of(&format!(r#"{{"type":{text}}}"#)) else {
                panic!("{text} is refused");
            };
            assert_eq!(told.code, code, "{text}");
            assert_eq!((told.channel.as_deref(), told.id.as_deref()), (channel, id), "{text}");
        }
    }
}
