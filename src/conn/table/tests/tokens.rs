//! Clients with tokens: told in time, renewed in place, ended when it is over.

use super::*;
use crate::{
    channel::ChannelPattern,
    conn::VerifiedToken,
    limits::{TOKEN_JWKS_WAIT, TOKEN_REFUSED_PAUSE},
    token::{Rights, TokenError},
};

/// The time that each token has left when it is shown.
const LEFT_MS: u64 = 100_000;

fn patterns(texts: &[&str]) -> ChannelPatterns {
    texts.iter().map(|text| ChannelPattern::new(text).unwrap()).collect()
}

pub(super) fn token(subscribe: &[&str], publish: &[&str], now: Millis) -> VerifiedToken {
    let rights = Rights {
        subscribe: patterns(subscribe),
        publish: patterns(publish),
        sub: Some("alice".into()),
        jti: Some("7".into()),
        expires_at: Some(LEFT_MS / 1000),
        verified_at: 0,
    };
    VerifiedToken::new(Arc::new(rights), now, Duration::ZERO)
}

/// A table in which no channel is public, and clients that never fall silent.
pub(super) fn private_table() -> Table {
    let keepalive = keepalive::KeepaliveSettings { interval: None, timeout: Duration::ZERO };
    let public_channels = patterns(&["open.*"]);
    table(ClientSettings { public_channels, keepalive, ..settings() })
}

impl Table {
    pub(super) fn client_with(
        &mut self,
        encoding: Encoding,
        channels: &[&str],
        token: VerifiedToken,
    ) -> (Key, TcpStream) {
        let channels: Vec<_> =
            channels.iter().map(|name| ChannelName::new(name).unwrap()).collect();
        let key = self.clients.admit(Endpoint::Ws, encoding, &channels);
        let credential = Some(Credential::Token(token));
        let peer = self.connect_with(key, None, credential, Millis(0));
        (key, peer)
    }

    /// Sends a command of one client's and lets the table act on it; what it asks of the shard.
    fn say(&mut self, key: Key, peer: &mut TcpStream, text: &str, now: Millis) -> Vec<Request> {
        peer.write_all(&masked(0x81, text.as_bytes())).unwrap();
        let mut requests = Vec::new();
        let before = self.clients.hub.unsent(key) + self.sent(key);
        self.read_until(key, now, |table| {
            requests.extend(table.clients.take_requests());
            !requests.is_empty() || table.clients.hub.unsent(key) + table.sent(key) > before
        });
        requests
    }

    /// Bytes of the client's own output that have been written.
    fn sent(&self, key: Key) -> usize {
        let acknowledged = self.clients.acknowledged_bytes(key);
        usize::try_from(acknowledged.unwrap_or_default()).unwrap()
    }
}

/// The next text message: a short frame.
fn event(peer: &mut TcpStream) -> serde_json::Value {
    let mut head = [0; 2];
    peer.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x81, "a text");
    let length = match head[1] {
        126 => {
            let mut long = [0; 2];
            peer.read_exact(&mut long).unwrap();
            usize::from(u16::from_be_bytes(long))
        }
        short => usize::from(short),
    };
    let mut text = vec![0; length];
    peer.read_exact(&mut text).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Ticks from `from` to `to`; the first moment at which `done`.
fn first_moment(table: &mut Table, from: u64, to: u64, done: impl Fn(&Table) -> bool) -> u64 {
    for now in (from..to).step_by(100) {
        table.clients.on_tick(Millis(now));
        if done(table) {
            return now;
        }
    }
    panic!("not until {to}");
}

/// A client is told that its token expires, and then closed.
#[test]
fn a_client_is_told_before_its_token_expires() {
    let mut table = private_table();
    let (key, mut peer) =
        table.client_with(Encoding::V1, &["news"], token(&["news"], &[], Millis(0)));
    peer.set_nonblocking(true).unwrap();
    let reader = peer.try_clone().unwrap();
    let told = first_moment(&mut table, 0, LEFT_MS, |_| reader.peek(&mut [0; 1]).is_ok());
    assert!((75_000..=90_100).contains(&told), "{told}");
    peer.set_nonblocking(false).unwrap();
    let told_event = event(&mut peer);
    assert_eq!(told_event["type"], "token_expiring");
    let in_ms = told_event["in_ms"].as_u64().unwrap();
    assert!(in_ms.abs_diff(LEFT_MS - told) <= 100, "{in_ms} at {told}");
    let is_closing = |table: &Table| {
        table.clients.entries[key.index()].as_ref().unwrap().state() != ClientState::Open
    };
    let ended = first_moment(&mut table, told, LEFT_MS + 20_000, is_closing);
    assert!((LEFT_MS..=LEFT_MS + 10_100).contains(&ended), "{ended}");
    assert_eq!(close_code(&mut peer), 4401);
}

/// Clients that cannot be told are closed all the same, and a stream just ends.
#[test]
fn plain_clients_and_streams_end_with_their_tokens() {
    let mut table = private_table();
    let (_, mut plain) =
        table.client_with(Encoding::Plain, &["news"], token(&["news"], &[], Millis(0)));
    let (_, mut stream) =
        table.client_with(Encoding::Sse, &["news"], token(&["news"], &[], Millis(0)));
    first_moment(&mut table, 0, LEFT_MS, |_| true);
    for now in (0..LEFT_MS).step_by(5_000) {
        table.clients.on_tick(Millis(now));
    }
    assert_eq!(table.clients.live(), 2);
    for now in (LEFT_MS..LEFT_MS + 30_000).step_by(1_000) {
        table.clients.on_tick(Millis(now));
    }
    assert_eq!(close_code(&mut plain), 4401);
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("retry:"), "its opening, and the end: {text}");
    let closed = &table.metrics.connections_closed;
    assert_eq!(closed.get(CloseReason::TokenExpired as usize), 2);
    assert!(table.clients.is_empty() && table.clients.clients_of_subject("alice").is_empty());
}

/// A client whose pong is only found when it is to be given up keeps the end of its token.
#[test]
fn a_late_pong_does_not_postpone_the_end() {
    let interval = Some(Duration::from_secs(60));
    let keepalive = keepalive::KeepaliveSettings { interval, timeout: Duration::from_secs(20) };
    let public_channels = patterns(&["open.*"]);
    let mut table = table(ClientSettings { public_channels, keepalive, ..settings() });
    let (key, mut peer) =
        table.client_with(Encoding::Plain, &["news"], token(&["news"], &[], Millis(0)));
    table.clients.on_tick(Millis(60_100));
    read_exactly(&mut peer, b"\x89\x00");
    peer.write_all(&masked(0x8a, b"")).unwrap();
    // Nobody has said that there is something to read.
    table.clients.on_tick(Millis(80_200));
    assert_eq!(table.clients.live(), 1, "it has answered");
    let is_closing = |table: &Table| {
        table.clients.entries[key.index()].as_ref().unwrap().state() != ClientState::Open
    };
    let ended = first_moment(&mut table, 80_300, LEFT_MS + 40_000, is_closing);
    assert!((LEFT_MS..=LEFT_MS + 10_100).contains(&ended), "{ended}");
    assert_eq!(close_code(&mut peer), 4401);
}

/// A renewed token postpones the end, and takes the channels that it does not cover.
#[test]
fn a_renewed_token_postpones_the_end() {
    let mut table = private_table();
    let first = token(&["news", "chat"], &[], Millis(0));
    let (key, mut peer) = table.client_with(Encoding::V1, &["news", "chat", "open.a"], first);
    assert_eq!(table.clients.clients_of_subject("alice"), [key]);
    assert_eq!(table.clients.clients_of_token_id("7"), [key]);
    let now = Millis(50_000);
    let requests = table.say(key, &mut peer, r#"{"type":"token","token":"x.y.z"}"#, now);
    assert!(
        matches!(&requests[..], [Request::Command(of, ClientCommand::Token(token), _)]
            if *of == key && token.expose() == "x.y.z"),
        "{requests:?}"
    );
    assert!(!format!("{requests:?}").contains("x.y.z"), "hidden");
    table.clients.renewed(key, Ok(token(&["news"], &[], now)), now);
    assert!(table.clients.next_command(key).is_none());
    assert_eq!(event(&mut peer), serde_json::json!({"type": "token", "expires_in_ms": LEFT_MS}));
    let ended = serde_json::json!({"type": "unsubscribed", "channel": "chat", "code": "forbidden"});
    assert_eq!(event(&mut peer), ended);
    assert!(!table.clients.has_channel("chat"));
    assert!(table.clients.has_channel("news") && table.clients.has_channel("open.a"));
    for now in (50_000..120_000).step_by(1_000) {
        table.clients.on_tick(Millis(now));
    }
    assert_eq!(table.clients.live(), 1, "the first token's end is past");
}

/// A token that is shown in time, and is not judged yet, keeps its client for as long as that may
/// take; once, and whether it is on its way or waits behind a publication.
#[test]
fn a_token_that_is_being_judged_postpones_the_end() {
    let shown = r#"{"type":"token","token":"x.y.z"}"#;
    let publish = r#"{"type":"publish","channel":"chat","data":"x"}"#;
    for (commands, renews) in [
        (&[shown][..], true),
        (&[publish, shown], true),
        (&[shown, shown], true),
        (&[publish], false),
    ] {
        let mut table = private_table();
        let first = token(&["news"], &["chat"], Millis(0));
        let (key, mut peer) = table.client_with(Encoding::V1, &["news"], first);
        let all: Vec<_> = commands.iter().flat_map(|text| masked(0x81, text.as_bytes())).collect();
        peer.write_all(&all).unwrap();
        let mut requests = Vec::new();
        table.read_until(key, Millis(LEFT_MS - 1), |table| {
            requests.extend(table.clients.take_requests());
            !requests.is_empty()
        });
        let mut is_open = |now: Millis| {
            table.clients.on_tick(now);
            table.clients.entries[key.index()].as_ref().unwrap().state() == ClientState::Open
        };
        // Past every grace.
        let due = Millis(LEFT_MS + 10_100);
        assert_eq!(is_open(due), renews, "{commands:?}");
        if renews {
            assert!(is_open(due + (TOKEN_JWKS_WAIT - Duration::from_millis(100))));
            assert!(!is_open(due + (TOKEN_JWKS_WAIT + Duration::from_millis(200))), "once");
        }
    }
}

#[test]
fn a_bad_token_leaves_the_earlier_one() {
    let mut table = private_table();
    let (key, mut peer) =
        table.client_with(Encoding::V1, &["news"], token(&["news"], &[], Millis(0)));
    table.clients.renewed(key, Err(TokenError::Signature), Millis(1));
    table.clients.renewed(key, Err(TokenError::KeysUnavailable), Millis(1));
    for code in ["bad_token", "keys_unavailable"] {
        let told = event(&mut peer);
        assert_eq!((&told["type"], &told["code"]), (&"error".into(), &code.into()), "{told}");
    }
    assert!(table.clients.has_channel("news"));
}

#[test]
fn commands_without_right_are_refused() {
    let mut table = private_table();
    let first = token(&["news"], &["chat"], Millis(0));
    let (key, mut peer) = table.client_with(Encoding::V1, &["news"], first);
    for (command, channel) in [("subscribe", "chat"), ("publish", "news")] {
        let text = format!(r#"{{"type":"{command}","channel":"{channel}","data":"x"}}"#);
        assert!(table.say(key, &mut peer, &text, Millis(1)).is_empty());
        let told = event(&mut peer);
        let of = (&told["type"], &told["code"], &told["channel"]);
        assert_eq!(of, (&"error".into(), &"forbidden".into(), &channel.into()), "{told}");
    }
    for (command, channel) in [("subscribe", "open.b"), ("publish", "chat")] {
        let text = format!(r#"{{"type":"{command}","channel":"{channel}","data":"x"}}"#);
        let requests = table.say(key, &mut peer, &text, Millis(1));
        assert!(matches!(&requests[..], [Request::Command(..)]), "{requests:?}");
        if let [Request::Command(_, ClientCommand::Publish(message), _)] = &requests[..] {
            assert_eq!(message.publisher, Principal::of_subject(Some("alice")));
        }
        assert!(table.clients.next_command(key).is_none());
    }
}

/// A publication behind a token is judged by this one, in the order in which they were said, and
/// published as its subject: whether it gives more rights or fewer, and whether its client is still
/// there.
#[test]
fn a_publication_behind_a_token_is_judged_by_it() {
    let by_alice = Principal::of_subject(Some("alice"));
    for (publisher, credential, channel, shown, expected) in [
        // From no right at all, from that of everybody, and from that of an API token.
        (None, None, "chat", Ok(()), Some(by_alice)),
        (None, None, "other", Ok(()), None),
        (Some(PublisherClass::Anonymous), None, "chat", Ok(()), Some(by_alice)),
        (Some(PublisherClass::Anonymous), None, "other", Ok(()), None),
        (Some(PublisherClass::Api), Some(Credential::Api), "other", Ok(()), None),
        // A token that is refused changes nothing.
        (None, None, "chat", Err(TokenError::Signature), None),
        (
            Some(PublisherClass::Api),
            Some(Credential::Api),
            "other",
            Err(TokenError::Signature),
            Some(Principal::Api),
        ),
    ] {
        for hangs_up in [false, true] {
            let mut table = private_table();
            let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &[]);
            let mut peer = table.connect_with(key, publisher, credential.clone(), Millis(0));
            let publish = format!(r#"{{"type":"publish","channel":"{channel}","data":"x"}}"#);
            let commands = [r#"{"type":"token","token":"x.y.z"}"#, &publish];
            peer.write_all(&commands.map(|text| masked(0x81, text.as_bytes())).concat()).unwrap();
            let mut requests = Vec::new();
            table.read_until(key, Millis(1), |table| {
                requests.extend(table.clients.take_requests());
                !requests.is_empty()
            });
            assert!(matches!(&requests[..], [Request::Command(_, ClientCommand::Token(_), _)]));
            if hangs_up {
                table.clients.close(key, CloseReason::Client);
                table.clients.end(key, CloseReason::Client);
            }
            let verified = shown.clone().map(|()| token(&[], &["chat"], Millis(1)));
            table.clients.renewed(key, verified, Millis(1));
            let next = table.clients.next_command(key).or_else(|| {
                // After a bad token it waits.
                table.clients.on_tick(Millis(101) + TOKEN_REFUSED_PAUSE);
                table.clients.take_requests().into_iter().find_map(|request| match request {
                    Request::Command(_, command, _) => Some(command),
                    Request::Abandoned(_) => None,
                })
            });
            let publisher = match next {
                Some(ClientCommand::Publish(message)) => Some(message.publisher),
                other => {
                    assert!(other.is_none(), "{other:?}");
                    None
                }
            };
            assert_eq!(publisher, expected, "{publisher:?} {channel} {shown:?} {hangs_up}");
            assert!(table.clients.next_command(key).is_none());
            if hangs_up {
                assert!(table.clients.is_empty());
                assert!(table.clients.clients_of_subject("alice").is_empty());
            }
        }
    }
}

/// The commands of a client that wait are not run once it is disconnected.
#[test]
fn commands_that_wait_end_with_the_right() {
    let mut table = private_table();
    let first = token(&["news"], &["chat"], Millis(0));
    let (key, mut peer) = table.client_with(Encoding::V1, &["news"], first);
    let publish = masked(0x81, br#"{"type":"publish","channel":"chat","data":"x"}"#);
    peer.write_all(&[&publish[..], &publish[..]].concat()).unwrap();
    let mut requests = Vec::new();
    table.read_until(key, Millis(1), |table| {
        requests.extend(table.clients.take_requests());
        !requests.is_empty()
    });
    assert_eq!(requests.len(), 1, "the second one waits: {requests:?}");
    let alice = crate::broker::Selector::Bearer(crate::bans::Bearer::Subject("alice".into()));
    let away =
        crate::broker::Disconnection { selector: alice, may_return: false, banned_for: None };
    assert_eq!(table.clients.disconnect(&away, Millis(2)), 1);
    table.clients.on_tick(Millis(50));
    assert!(table.clients.next_command(key).is_none());
}

/// Ten thousand clients whose tokens end together renew them spread over the time that there is:
/// no second has more than one and a half times as many as the mean.
#[test]
fn clients_that_end_together_renew_apart() {
    const CLIENTS: u64 = 10_000;
    let mut table = private_table();
    let shown = token(&["a"], &[], Millis(0));
    let channel = ChannelName::new("a").unwrap();
    let mut waiting: Vec<Key> = Vec::new();
    for _ in 0..CLIENTS {
        let key = table.clients.admit(Endpoint::Ws, Encoding::V1, std::slice::from_ref(&channel));
        table.clients.set_credential(key, Credential::Token(shown.clone()));
        waiting.push(key);
    }
    let silent = table.clients.hub.unsent(waiting[0]);
    let mut told = Vec::new();
    for second in 0..LEFT_MS / 1000 {
        table.clients.on_tick(Millis(1000 * second));
        let before = waiting.len();
        waiting.retain(|&key| table.clients.hub.unsent(key) == silent);
        if before > waiting.len() {
            told.push((before - waiting.len()) as u64);
        }
    }
    assert!(waiting.is_empty(), "each is told");
    let mean = CLIENTS / told.len() as u64;
    let most = told.iter().copied().max().unwrap_or_default();
    assert!(2 * most <= 3 * mean, "{told:?}");
    assert!((14..=17).contains(&told.len()), "between 75 and 90 of 100 seconds: {told:?}");
}
