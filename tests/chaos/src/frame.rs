//! Frames of a server in `wsbcast.v1`, as far as the judge must know them, and those of clients.
//!
//! Pure: text in, values out. Unknown types are ignored, as the protocol asks of clients.

use std::{borrow::Cow, collections::BTreeMap};

use serde::Deserialize;

use super::shared::channel_name;

/// The subprotocol's name.
pub(super) const PROTOCOL: &str = "wsbcast.v1";
/// Behind the number of the last message of a channel.
const LAST: &str = " last";

/// A frame of the server; which fields there are depends on its type.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) channel: Option<&'a str>,
    pub(super) epoch: Option<&'a str>,
    pub(super) offset: Option<u64>,
    pub(super) data: Option<&'a str>,
    pub(super) from: Option<u64>,
    pub(super) to: Option<u64>,
    #[serde(borrow)]
    pub(super) positions: Option<BTreeMap<&'a str, Option<Position<'a>>>>,
    pub(super) reconnect_after_ms: Option<u64>,
    pub(super) code: Option<&'a str>,
}

/// A place by its epoch's name.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Position<'a> {
    pub(super) epoch: &'a str,
    pub(super) offset: u64,
}

impl<'a> Frame<'a> {
    /// Reads a text frame.
    pub(super) fn parse(text: &'a str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("{error} in {text}"))
    }

    /// Epoch and offset, where there are both.
    pub(super) fn position(&self) -> Option<Position<'a>> {
        Some(Position { epoch: self.epoch?, offset: self.offset? })
    }
}

/// The payload of a channel's message number `number`; the last one says so.
pub(super) fn payload(number: u32, is_last: bool) -> String {
    format!("{number}{}", if is_last { LAST } else { "" })
}

/// Reads a payload.
pub(super) fn read_payload(data: &str) -> Option<(u32, bool)> {
    match data.strip_suffix(LAST) {
        Some(number) => Some((number.parse().ok()?, true)),
        None => Some((data.parse().ok()?, false)),
    }
}

/// The path of a handshake: channels with their positions as text, where there are any.
pub(super) fn path(channels: &[(usize, Option<String>)]) -> String {
    let mut path = "/ws".to_owned();
    for (at, (channel, since)) in channels.iter().enumerate() {
        let mark = if at == 0 { '?' } else { '&' };
        let since = since.as_deref().unwrap_or_default();
        path += &format!("{mark}channel={}&since={since}", channel_name(*channel));
    }
    path
}

/// Asks for one more channel.
pub(super) fn subscribe(channel: usize, since: Option<&str>) -> String {
    let mut frame = serde_json::json!({ "type": "subscribe", "channel": channel_name(channel) });
    if let Some(since) = since {
        frame["since"] = since.into();
    }
    frame.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_protocol_are_read() {
        let text = r#"{"type":"message","channel":"chaos.3","epoch":"e","offset":7,"data":"12"}"#;
        let message = Frame::parse(text).unwrap();
        assert_eq!((message.channel, message.data), (Some("chaos.3"), Some("12")));
        assert_eq!(message.position().map(|position| position.offset), Some(7));
        let text = r#"{"type":"gap","channel":"chaos.3","epoch":null,"from":3,"to":null}"#;
        let gap = Frame::parse(text).unwrap();
        assert_eq!((gap.kind.as_ref(), gap.from, gap.to, gap.epoch), ("gap", Some(3), None, None));
        let text = r#"{"type":"hello","version":"1","ping_interval_ms":25000,
            "positions":{"chaos.1":{"epoch":"e","offset":41},"chaos.2":null}}"#;
        let positions = Frame::parse(text).unwrap().positions.unwrap();
        assert_eq!(positions["chaos.1"].unwrap().offset, 41);
        assert!(positions["chaos.2"].is_none());
        assert!(Frame::parse("[]").is_err());
    }

    #[test]
    fn payloads_are_written_and_read_back() {
        for (number, is_last) in [(0, false), (12, true)] {
            assert_eq!(read_payload(&payload(number, is_last)), Some((number, is_last)));
        }
        assert_eq!(read_payload("x"), None);
    }

    #[test]
    fn a_handshake_names_each_channel_with_its_position() {
        let path = path(&[(1, Some("e:4".to_owned())), (2, None)]);
        assert_eq!(path, "/ws?channel=chaos.1&since=e:4&channel=chaos.2&since=");
    }
}
