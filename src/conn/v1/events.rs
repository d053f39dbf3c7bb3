//! The server's events of `wsbcast.v1` for one client alone, as JSON: pure.
//!
//! Messages and gaps, which are in logs, are written in `encodings`. Source of the words:
//! `docs/protocol-v1.md` in this repository.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    broker::{Position, PublishError, Start},
    channel::ChannelName,
    metrics::PublishFailure,
};

/// A message of the server's.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(in crate::conn) enum ServerEvent<'a> {
    Hello {
        version: &'static str,
        #[serde(serialize_with = "by_channel")]
        positions: &'a [Start],
        ping_interval_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        greeting: Option<&'a str>,
    },
    Subscribed {
        channel: &'a str,
        #[serde(flatten)]
        place: Place<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        recovered: Option<bool>,
    },
    Unsubscribed {
        channel: &'a str,
        /// Why, if the client has not asked for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<Code>,
    },
    /// The client's token expires.
    TokenExpiring {
        in_ms: u64,
    },
    /// A new token is good.
    Token {
        /// None: it does not expire.
        expires_in_ms: Option<u64>,
    },
    Published {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        channel: &'a str,
        #[serde(flatten)]
        place: Place<'a>,
        scope: &'static str,
        clients: usize,
    },
    Pong,
    Drain {
        reconnect_after_ms: u64,
    },
    Error(&'a ErrorEvent),
}

/// A position, or two times null.
#[derive(Debug, Serialize)]
pub(in crate::conn) struct Place<'a> {
    epoch: Option<&'a str>,
    offset: Option<u64>,
}

/// The answer to a command that cannot be executed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::conn) struct ErrorEvent {
    pub(in crate::conn) code: Code,
    pub(in crate::conn) message: Cow<'static, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::conn) channel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::conn) id: Option<String>,
}

/// The error, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::conn) enum Code {
    BadRequest,
    BadChannel,
    BadPosition,
    TooManyChannels,
    Full,
    Forbidden,
    BadToken,
    KeysUnavailable,
    TooBig,
    /// Why the broker has not done it: the words of the metrics and of HTTP.
    #[serde(untagged, serialize_with = "by_word")]
    Failure(PublishFailure),
}

impl ServerEvent<'_> {
    /// As JSON.
    pub(in crate::conn) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers can be written to memory")
    }
}

impl<'a> From<Option<&'a Position>> for Place<'a> {
    fn from(position: Option<&'a Position>) -> Self {
        Self {
            epoch: position.map(|position| &*position.epoch),
            offset: position.map(|position| position.offset),
        }
    }
}

impl ErrorEvent {
    pub(in crate::conn) fn about(
        channel: &ChannelName,
        code: Code,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self { code, message: message.into(), channel: Some(channel.to_string()), id: None }
    }
}

impl From<&PublishError> for Code {
    fn from(error: &PublishError) -> Self {
        Self::Failure(error.into())
    }
}

fn by_word<S: Serializer>(failure: &PublishFailure, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(failure.word())
}

fn by_channel<S: Serializer>(starts: &[Start], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(starts.len()))?;
    for start in starts {
        let place = start.from.as_ref().map(|position| Place::from(Some(position)));
        map.serialize_entry(start.channel.as_str(), &place)?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(event: &ServerEvent<'_>) -> String {
        String::from_utf8(event.to_json()).unwrap()
    }

    #[test]
    fn hello_tells_where_each_channel_begins() {
        let start = |name: &str, from: Option<&str>| Start {
            channel: ChannelName::new(name).unwrap(),
            from: from.map(|text| text.parse().unwrap()),
            to: None,
            resumed: false,
            missed: None,
        };
        let starts = [start("b", Some("e:41")), start("a", None)];
        let hello = |greeting| ServerEvent::Hello {
            version: "1.2.3",
            positions: &starts,
            ping_interval_ms: 25_000,
            greeting,
        };
        let positions = r#""positions":{"b":{"epoch":"e","offset":41},"a":null}"#;
        assert_eq!(
            json(&hello(None)),
            format!(r#"{{"type":"hello","version":"1.2.3",{positions},"ping_interval_ms":25000}}"#)
        );
        assert!(json(&hello(Some("hi"))).ends_with(r#","greeting":"hi"}"#));
    }

    #[test]
    fn words_about_tokens_stand_as_they_are_documented() {
        for (event, expected) in [
            (
                ServerEvent::Unsubscribed { channel: "a", code: Some(Code::Forbidden) },
                r#"{"type":"unsubscribed","channel":"a","code":"forbidden"}"#,
            ),
            (ServerEvent::TokenExpiring { in_ms: 300 }, r#"{"type":"token_expiring","in_ms":300}"#),
            (
                ServerEvent::Token { expires_in_ms: Some(7) },
                r#"{"type":"token","expires_in_ms":7}"#,
            ),
            (
                ServerEvent::Token { expires_in_ms: None },
                r#"{"type":"token","expires_in_ms":null}"#,
            ),
        ] {
            assert_eq!(json(&event), expected);
        }
    }

    #[test]
    fn every_other_word_stands_as_it_is_documented() {
        let position: Position = "e:7".parse().unwrap();
        let place = || Place::from(Some(&position));
        let error_event = ErrorEvent {
            code: Code::Failure(PublishFailure::BrokerLost),
            message: "m".into(),
            channel: Some("a".into()),
            id: Some("1".into()),
        };
        let bare =
            ErrorEvent { code: Code::BadRequest, message: "m".into(), channel: None, id: None };
        for (event, expected) in [
            (
                ServerEvent::Subscribed { channel: "a", place: place(), recovered: Some(true) },
                r#"{"type":"subscribed","channel":"a","epoch":"e","offset":7,"recovered":true}"#,
            ),
            (
                ServerEvent::Subscribed { channel: "a", place: None.into(), recovered: None },
                r#"{"type":"subscribed","channel":"a","epoch":null,"offset":null}"#,
            ),
            (
                ServerEvent::Unsubscribed { channel: "a", code: None },
                r#"{"type":"unsubscribed","channel":"a"}"#,
            ),
            (
                ServerEvent::Published {
                    id: Some("1"),
                    channel: "a",
                    place: place(),
                    scope: "cluster",
                    clients: 3,
                },
                concat!(
                    r#"{"type":"published","id":"1","channel":"a","#,
                    r#""epoch":"e","offset":7,"scope":"cluster","clients":3}"#
                ),
            ),
            (
                ServerEvent::Published {
                    id: None,
                    channel: "a",
                    place: None.into(),
                    scope: "local",
                    clients: 0,
                },
                concat!(
                    r#"{"type":"published","channel":"a","epoch":null,"offset":null,"#,
                    r#""scope":"local","clients":0}"#
                ),
            ),
            (ServerEvent::Pong, r#"{"type":"pong"}"#),
            (
                ServerEvent::Drain { reconnect_after_ms: 1234 },
                r#"{"type":"drain","reconnect_after_ms":1234}"#,
            ),
            (
                ServerEvent::Error(&error_event),
                r#"{"type":"error","code":"broker_lost","message":"m","channel":"a","id":"1"}"#,
            ),
            (ServerEvent::Error(&bare), r#"{"type":"error","code":"bad_request","message":"m"}"#),
        ] {
            assert_eq!(json(&event), expected);
        }
    }
}
