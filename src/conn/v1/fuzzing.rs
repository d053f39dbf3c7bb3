//! Properties of the commands that a client of `wsbcast.v1` sends.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    command::{self, Command, Mistake},
    events::ServerEvent,
};
use crate::{
    broker::Since,
    limits::{CHANNEL_NAME_BYTES_MAX, IDEMPOTENCY_KEY_BYTES_MAX, TOLD_BACK_BYTES_MAX},
    ws::{Kind, close::CloseReason},
};

const DATA_BYTES_MAX: usize = 100;

/// A command that was read is within the bounds, and is read again from JSON that says the same;
/// a mistake is told in JSON of a bounded length; and a text is called no JSON only if it is none.
pub(crate) fn commands(input: &[u8]) {
    match command::read(input, DATA_BYTES_MAX) {
        Ok(command) => {
            let written = written(&command).to_string();
            assert_eq!(command::read(written.as_bytes(), DATA_BYTES_MAX), Ok(command), "{written}");
        }
        Err(Mistake::Told(told)) => {
            for word in [&told.channel, &told.id].into_iter().flatten() {
                assert!(word.len() <= TOLD_BACK_BYTES_MAX, "{} bytes told back", word.len());
            }
            let event = ServerEvent::Error(&told).to_json();
            let event: Value = serde_json::from_slice(&event).expect("events are JSON");
            assert_eq!(event["type"], "error");
            assert_eq!(event["channel"].as_str(), told.channel.as_deref());
        }
        Err(Mistake::Fatal(reason)) => {
            let is_json = serde_json::from_slice::<Value>(input).is_ok();
            let expected = [CloseReason::NotJson, CloseReason::Malformed];
            assert!(expected.contains(&reason), "{reason:?}");
            assert!(!is_json || reason == CloseReason::Malformed, "it is JSON");
        }
    }
}

/// The JSON of a command.
fn written(command: &Command) -> Value {
    match command {
        Command::Subscribe(wanted) => {
            let mut json = json!({"type": "subscribe", "channel": wanted.channel.as_str()});
            match &wanted.since {
                None => {}
                Some(Since::After(position)) => json["since"] = position.to_string().into(),
                Some(Since::Newest(count)) => json["last"] = (*count).into(),
            }
            json
        }
        Command::Unsubscribe(channel) => {
            json!({"type": "unsubscribe", "channel": channel.as_str()})
        }
        Command::Publish { channel, kind, data, id } => {
            assert!(data.len() <= DATA_BYTES_MAX, "{} bytes of data", data.len());
            assert!(channel.as_str().len() <= CHANNEL_NAME_BYTES_MAX);
            let mut json = json!({"type": "publish", "channel": channel.as_str()});
            match kind {
                Kind::Text => json["data"] = str::from_utf8(data).expect("text is UTF-8").into(),
                Kind::Binary => {
                    json["data"] = STANDARD.encode(data).into();
                    json["encoding"] = "base64".into();
                }
            }
            if let Some(id) = id {
                assert!(id.as_str().len() <= IDEMPOTENCY_KEY_BYTES_MAX);
                json["id"] = id.as_str().into();
            }
            json
        }
        Command::Token(token) => json!({"type": "token", "token": token.expose()}),
        Command::Ping => json!({"type": "ping"}),
        Command::Unknown => json!({"type": "of another version"}),
    }
}
