//! A client of the subprotocol `wsbcast.v1`: JSON in, JSON out.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{
    client::Client,
    http::{Http, Response},
};

/// The header that asks for the subprotocol.
pub(crate) const OFFER: &str = "Sec-WebSocket-Protocol: wsbcast.v1\r\n";

/// One upgraded connection that speaks it.
#[derive(Debug)]
pub(crate) struct V1 {
    pub(crate) client: Client,
    /// The first message.
    pub(crate) hello: Value,
}

impl V1 {
    /// A client of `target`, such as `/ws?channel=a`.
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr, target: &str) -> Self {
        Self::over(Http::connect(addr), addr, target)
    }

    /// The same over a connection that the test has made.
    #[track_caller]
    pub(crate) fn over(http: Http, addr: SocketAddr, target: &str) -> Self {
        let opened = Client::try_open(http, addr, target, OFFER);
        Self::welcomed(opened.unwrap_or_else(|response| panic!("{target} upgrades: {response:?}")))
    }

    /// Asks for the upgrade; the answer if it is not 101.
    #[track_caller]
    pub(crate) fn try_open(addr: SocketAddr, target: &str) -> Result<Self, Response> {
        Client::try_open(Http::connect(addr), addr, target, OFFER).map(Self::welcomed)
    }

    /// A client from a connection on which the subprotocol has just been agreed upon.
    #[track_caller]
    pub(crate) fn welcomed(mut client: Client) -> Self {
        assert_eq!(client.upgrade.header("sec-websocket-protocol"), Some("wsbcast.v1"));
        let hello: Value = serde_json::from_str(&client.text()).expect("JSON");
        assert_eq!(hello["type"], "hello", "{hello}");
        Self { client, hello }
    }

    /// Says something.
    #[track_caller]
    pub(crate) fn say(&mut self, word: &Value) {
        self.client.send_text(&word.to_string());
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        let text = self.client.text();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The next message, which is of this type.
    #[track_caller]
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        let next = self.next();
        assert_eq!(next["type"], kind, "{next}");
        next
    }

    /// The next message's text and offset.
    #[track_caller]
    pub(crate) fn message(&mut self) -> (String, u64) {
        let message = self.next_of("message");
        let data = message["data"].as_str().expect("data is a string").to_owned();
        (data, message["offset"].as_u64().expect("a clustered message"))
    }

    /// Says `word` and takes the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, word: &Value) -> Value {
        self.say(word);
        self.next()
    }

    /// Subscribes, and takes the answer.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: &str) -> Value {
        let answer = self.ask(&json!({"type": "subscribe", "channel": channel}));
        assert_eq!((&answer["type"], &answer["channel"]), (&json!("subscribed"), &json!(channel)));
        answer
    }

    /// Everything that was said to this client so far has arrived when this returns; it is
    /// nothing.
    #[track_caller]
    pub(crate) fn assert_nothing_else(&mut self) {
        assert_eq!(self.ask(&json!({"type": "ping"})), json!({"type": "pong"}));
    }
}

/// `EPOCH:OFFSET` of a value that has both.
#[track_caller]
pub(crate) fn position(value: &Value) -> String {
    let epoch = value["epoch"].as_str().unwrap_or_else(|| panic!("an epoch: {value}"));
    format!("{epoch}:{}", value["offset"].as_u64().unwrap_or_else(|| panic!("an offset: {value}")))
}
