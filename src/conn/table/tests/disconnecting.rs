//! Clients that an operator sends away: which, how, and how fast.

use super::*;
use crate::{
    bans::Bearer,
    broker::{Disconnection, Selector},
    conn::VerifiedToken,
    limits::{DISCONNECT_PAUSE, DISCONNECT_WINDOW_MAX},
    token::Rights,
};

fn of_channel(name: &str, may_return: bool) -> Disconnection {
    Disconnection {
        selector: Selector::Channel(ChannelName::new(name).unwrap()),
        may_return,
        banned_for: None,
    }
}

impl Table {
    fn client_of(&mut self, name: &str, encoding: Encoding) -> TcpStream {
        let channel = ChannelName::new(name).unwrap();
        let key = self.clients.admit(Endpoint::Ws, encoding, &[channel]);
        self.connect(key, Millis(0))
    }

    pub(super) fn closed(&self, reason: CloseReason) -> u64 {
        self.metrics.connections_closed.get(reason as usize)
    }
}

fn rest_of(peer: &mut TcpStream) -> String {
    let mut rest = Vec::new();
    peer.read_to_end(&mut rest).unwrap();
    String::from_utf8_lossy(&rest).into_owned()
}

#[test]
fn clients_of_the_channel_are_closed_and_no_others() {
    let mut table = table(settings());
    let mut gone = [Encoding::Plain, Encoding::V1].map(|encoding| table.client_of("a", encoding));
    let mut stream = table.client_of("a", Encoding::Sse);
    let mut other = table.client_of("b", Encoding::Plain);
    assert_eq!(table.clients.disconnect(&of_channel("none", false), Millis(0)), 0);
    assert_eq!(table.clients.disconnect(&of_channel("a", false), Millis(0)), 3);
    table.clients.on_tick(Millis(50));
    for peer in &mut gone {
        assert_eq!(close_code(peer), 4403);
    }
    assert!(!rest_of(&mut stream).contains("\u{fffd}"), "a stream just ends");
    table.clients.on_tick(Millis(5_000));
    assert_eq!((table.clients.live(), table.closed(CloseReason::Disconnected)), (1, 3));
    let key = table.clients.keys()[0];
    table.clients.close(key, CloseReason::Internal);
    assert_eq!(close_code(&mut other), 1011, "nothing before");
    assert_eq!(table.clients.disconnect(&of_channel("a", false), Millis(6_000)), 0);
}

/// A stream is told to come back when the process has ended, which is when all are closed, though
/// an operator has set a limit far behind that.
#[test]
fn a_stream_comes_back_when_the_closing_is_through() {
    use crate::drain::{Cause, DrainSettings, Machine, Phase, Steering};
    let [window, hour] = [20, 3600].map(Duration::from_secs);
    let settings = DrainSettings { pre_delay: Duration::ZERO, timeout: hour, close_over: window };
    for (closes_now, least, most) in [(true, 20, 40), (false, 3600, 3640)] {
        let mut table = table(quiet());
        let mut stream = table.client_of("a", Encoding::Sse);
        let mut machine = Machine::new(settings);
        machine.start(Millis(0), Cause::Admin);
        let steering = Steering { timeout: Some(hour), close_over: None, closes_now };
        machine.steer(Millis(0), &steering).unwrap();
        let phase = machine.advance(Millis(0), 1);
        table.control.publish(&machine, phase);
        assert_eq!(phase == Phase::Closing, closes_now);
        if closes_now {
            let alone = crate::drain::PaceShare { index: 0, of: 1 };
            table.clients.begin_paced_close(Millis(0), window, Duration::ZERO, alone);
        } else {
            // An operator sends it elsewhere while the process waits: it waits to its limit.
            table.clients.disconnect(&of_channel("a", true), Millis(0));
            table.clients.on_tick(Millis(0));
        }
        table.clients.on_tick(Millis(5_000));
        let told = rest_of(&mut stream);
        let told = told.split_once("\"reconnect_after_ms\":").expect("it is told").1;
        let ms: u64 = told.split_once('}').unwrap().0.parse().unwrap();
        assert!((least * 1000..=most * 1000).contains(&ms), "{ms} ms, now: {closes_now}");
    }
}

/// Other clients have their turns while many are closed, and repetitions cost nothing.
#[test]
fn disconnected_clients_are_closed_in_slices() {
    let mut table = table(quiet());
    let mut peers: Vec<_> = (0..10).map(|_| table.client_of("a", Encoding::Plain)).collect();
    for _ in 0..100 {
        // A client is counted until it closes, and closed once.
        assert_eq!(table.clients.disconnect(&of_channel("a", false), Millis(0)), 10);
    }
    assert!(table.clients.disconnected.len() <= 20, "repetitions take no memory");
    table.clients.begin_tick(Millis(50));
    let mut left = 3;
    let mut thrice = || {
        left -= 1;
        left >= 0
    };
    assert!(!table.clients.work_off(&mut thrice));
    assert!(table.clients.disconnect(&of_channel("a", false), Millis(50)) >= 7);
    table.clients.on_tick(Millis(100));
    peers.iter_mut().for_each(|peer| assert_eq!(close_code(peer), 4403));
    table.clients.on_tick(Millis(5_000));
    assert_eq!(table.closed(CloseReason::Disconnected), 10);
}

/// A thousand clients come back over ten seconds and more, each after a time of its own.
#[test]
fn clients_that_may_return_are_closed_over_time() {
    const CLIENTS: u32 = 100;
    let mut table = table(quiet());
    let peers: Vec<_> = (0..CLIENTS).map(|_| table.client_of("a", Encoding::Plain)).collect();
    assert_eq!(table.clients.disconnect(&of_channel("a", true), Millis(0)), CLIENTS as usize);
    let window = DISCONNECT_PAUSE * CLIENTS;
    assert!(window < DISCONNECT_WINDOW_MAX);
    let mut closing = |at: Millis| {
        table.clients.on_tick(at);
        let open = table.clients.entries.iter().flatten();
        open.filter(|entry| entry.state() != ClientState::Open).count()
    };
    let half = closing(Millis::default() + window / 2);
    assert!((45..=60).contains(&half), "{half} of {CLIENTS} at half time");
    assert_eq!(closing(Millis::default() + window), CLIENTS as usize);
    let mut waits = Vec::new();
    for mut peer in peers {
        assert_eq!(close_code(&mut peer), 1012);
        let text = rest_of(&mut peer);
        let wait = text.strip_prefix("service restart; retry in ").unwrap();
        waits.push(wait.strip_suffix(" ms").unwrap().parse::<u128>().unwrap());
    }
    assert!(waits.iter().all(|&wait| wait <= window.as_millis()), "{waits:?}");
    let late = waits.iter().filter(|&&wait| wait > window.as_millis() / 2).count();
    assert!((20..=80).contains(&late), "{waits:?}");
}

/// Further ones join those that are waiting, and clients that are sent away do not wait.
#[test]
fn paced_disconnections_are_joined_and_overtaken() {
    let mut table = table(quiet());
    let mut first: Vec<_> = (0..40).map(|_| table.client_of("a", Encoding::Plain)).collect();
    let mut second: Vec<_> = (0..40).map(|_| table.client_of("b", Encoding::Plain)).collect();
    for _ in 0..10 {
        assert_eq!(table.clients.disconnect(&of_channel("a", true), Millis(0)), 40);
    }
    assert_eq!(table.clients.disconnect(&of_channel("b", true), Millis(0)), 40);
    let waiting = table.clients.returning.as_ref().unwrap();
    assert_eq!(waiting.keys.len(), 80, "each once");
    assert_eq!(table.clients.disconnect(&of_channel("b", false), Millis(1)), 40);
    table.clients.on_tick(Millis(2));
    let mut codes: Vec<u16> = second.iter_mut().map(close_code).collect();
    codes.sort_unstable();
    assert_eq!(codes[2..], [4403; 38], "but for those whose turn it was");
    table.clients.on_tick(Millis::default() + DISCONNECT_PAUSE * 80);
    first.iter_mut().for_each(|peer| assert_eq!(close_code(peer), 1012));
    assert!(table.clients.returning.is_none());
}

/// Clients are found by the claims of the tokens that they have shown last.
#[test]
fn clients_are_disconnected_by_their_tokens_claims() {
    let mut table = table(quiet());
    let rights = |sub: &str, jti: Option<&str>| {
        let rights = Rights {
            subscribe: ChannelPatterns::all(),
            publish: ChannelPatterns::default(),
            sub: Some(sub.into()),
            jti: jti.map(Into::into),
            expires_at: None,
            verified_at: 0,
        };
        VerifiedToken::new(Arc::new(rights), Millis(0), Duration::ZERO)
    };
    let mut client = |token: Option<VerifiedToken>| {
        let key = table.admit();
        let credential = token.map(Credential::Token);
        (key, table.connect_with(key, None, credential, Millis(0)))
    };
    let (_, mut first) = client(Some(rights("alice", Some("1"))));
    let (_, mut second) = client(Some(rights("alice", Some("2"))));
    let (renewed, mut third) = client(Some(rights("alice", None)));
    let (_, mut bob) = client(Some(rights("bob", Some("alice"))));
    let (_, mut anonymous) = client(None);
    table.clients.renewed(renewed, Ok(rights("bob", None)), Millis(0));
    read_exactly(&mut third, b"\x81\x25{\"type\":\"token\",\"expires_in_ms\":null}");
    let by = |bearer: Bearer, may_return| Disconnection {
        selector: Selector::Bearer(bearer),
        may_return,
        banned_for: None,
    };
    let mut disconnect = |bearer, may_return| {
        let count = table.clients.disconnect(&by(bearer, may_return), Millis(1));
        table.clients.on_tick(Millis(50));
        count
    };
    assert_eq!(disconnect(Bearer::Subject("Alice".into()), false), 0);
    assert_eq!(disconnect(Bearer::TokenId("3".into()), false), 0);
    assert_eq!(disconnect(Bearer::TokenId("2".into()), false), 1);
    assert_eq!(close_code(&mut second), 4403);
    assert_eq!(disconnect(Bearer::Subject("alice".into()), true), 1, "one has another by now");
    assert_eq!(close_code(&mut first), 1012);
    assert_eq!(disconnect(Bearer::Subject("bob".into()), false), 2);
    assert_eq!([close_code(&mut third), close_code(&mut bob)], [4403; 2]);
    table.broadcast("still here");
    read_exactly(&mut anonymous, b"\x81\x0astill here");
}
