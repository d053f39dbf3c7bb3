//! Commands that wait: how many may, for how long, and what becomes of them when their client goes.

use super::*;
use crate::{
    bans::Bearer,
    broker::{Disconnection, Selector},
    conn::{VerifiedToken, write::control_messages::CloseMessage},
    hub::Finish,
    limits::{
        COMMANDS_READ_BYTES, INBOUND_MESSAGE_DEADLINE, ORPHANED_COMMANDS_DEADLINE,
        READ_BUFFER_BYTES, TOKEN_REFUSED_PAUSE,
    },
    token::{Rights, TokenError},
};

const BAD_TOKEN: &[u8] = br#"{"type":"token","token":""}"#;
const PUBLISH: &[u8] = br#"{"type":"publish","channel":"a","data":"x"}"#;
const PONGLESS: u64 = 1_000_000;

/// A client of `wsbcast.v1` that may publish everywhere.
fn publisher(table: &mut Table) -> (Key, TcpStream) {
    let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &[]);
    let peer = table.connect(key, Millis(0));
    (key, peer)
}

/// Sends these texts in one piece; what the table asks for.
fn say(table: &mut Table, key: Key, peer: &mut TcpStream, texts: &[&[u8]]) -> Vec<Request> {
    let all: Vec<u8> = texts.iter().flat_map(|text| masked(0x81, text)).collect();
    peer.write_all(&all).unwrap();
    let mut requests = Vec::new();
    table.read_until(key, Millis(0), |table| {
        requests.append(&mut table.clients.take_requests());
        !requests.is_empty()
    });
    requests
}

fn is_publication(request: &Request) -> bool {
    matches!(request, Request::Command(_, ClientCommand::Publish(_), _))
}

/// A client that has sent bad tokens by the hundred and hangs up leaves nothing behind. They used
/// to be verified one after the other, with a second's pause after each, for half an hour.
#[test]
fn bad_tokens_are_not_left_behind() {
    let mut table = table(quiet());
    let (key, mut peer) = publisher(&mut table);
    let tokens = vec![BAD_TOKEN; 100];
    let first = say(&mut table, key, &mut peer, &tokens);
    assert!(matches!(&first[..], [Request::Command(_, ClientCommand::Token(_), _)]), "{first:?}");
    assert!(table.budget.used() > 0, "the others wait");
    table.clients.end(key, CloseReason::Lost);
    assert_eq!(table.budget.used(), 0);
    table.clients.renewed(key, Err(TokenError::Signature), Millis(0));
    assert!(table.clients.next_command(key).is_none());
    assert!(table.clients.take_requests().is_empty() && table.clients.orphans.is_empty());
}

/// After a bad token nothing is run for a second, and nobody waits for that but the client.
#[test]
fn a_pause_after_a_bad_token_belongs_to_its_client() {
    for goes_on in ["stays", "is closed", "is gone"] {
        let mut table = table(quiet());
        let (key, mut peer) = publisher(&mut table);
        say(&mut table, key, &mut peer, &[BAD_TOKEN, BAD_TOKEN, PUBLISH, BAD_TOKEN, PUBLISH]);
        table.clients.renewed(key, Err(TokenError::Signature), Millis(0));
        assert!(table.clients.next_command(key).is_none(), "the task that runs them ends");
        table.clients.on_tick(Millis::default() + TOKEN_REFUSED_PAUSE / 2);
        assert!(table.clients.take_requests().is_empty());
        match goes_on {
            "stays" => table.clients.on_tick(Millis(100) + TOKEN_REFUSED_PAUSE),
            "is closed" => table.clients.close(key, CloseReason::GoingAway),
            _ => table.clients.end(key, CloseReason::Lost),
        }
        let requests = table.clients.take_requests();
        if goes_on == "stays" {
            assert!(
                matches!(&requests[..], [Request::Command(_, ClientCommand::Token(_), _)]),
                "{requests:?}"
            );
            continue;
        }
        assert!(requests.len() == 1 && is_publication(&requests[0]), "{goes_on}: {requests:?}");
        let second = table.clients.next_command(key);
        assert!(matches!(second, Some(ClientCommand::Publish(_))), "{goes_on}: no more tokens");
        assert!(table.clients.next_command(key).is_none());
        assert_eq!(table.budget.used(), 0);
    }
}

/// A departed client's token that turns out to be a bad one is the last that is verified.
#[test]
fn a_departed_client_shows_one_bad_token() {
    let mut table = table(quiet());
    let (key, mut peer) = publisher(&mut table);
    say(&mut table, key, &mut peer, &[BAD_TOKEN, BAD_TOKEN, BAD_TOKEN, PUBLISH]);
    table.clients.end(key, CloseReason::Lost);
    table.clients.renewed(key, Err(TokenError::Signature), Millis(0));
    let next = table.clients.next_command(key);
    assert!(matches!(next, Some(ClientCommand::Publish(_))), "{next:?}");
    assert!(table.clients.next_command(key).is_none());
}

/// The last client leaves no moment in which nothing holds the drain: what it wanted to publish is
/// counted before it is not.
#[test]
fn the_last_clients_publications_hold_the_drain() {
    for with_pause in [false, true] {
        let mut table = table(quiet());
        let barrier = table.control.barrier.clone();
        let (key, mut peer) = publisher(&mut table);
        if with_pause {
            drop(say(&mut table, key, &mut peer, &[BAD_TOKEN, PUBLISH]));
            table.clients.renewed(key, Err(TokenError::Signature), Millis(0));
            assert!(table.clients.next_command(key).is_none());
            assert_eq!((barrier.clients(), barrier.requests()), (1, 0));
            table.clients.end(key, CloseReason::Lost);
        } else {
            let close = masked(0x88, &1000_u16.to_be_bytes());
            peer.write_all(&[masked(0x81, PUBLISH), close].concat()).unwrap();
            table.read_until(key, Millis(0), |table| !table.is_open(key));
        }
        assert_eq!((barrier.clients(), barrier.requests()), (0, 1), "pause: {with_pause}");
        let requests = table.clients.take_requests();
        assert!(requests.len() == 1 && is_publication(&requests[0]), "{requests:?}");
        assert!(table.clients.next_command(key).is_none());
        drop(requests);
        assert_eq!(barrier.requests(), 0, "it is out");
    }
}

/// Publications that a client has left behind go out for a while, however slow the broker is.
#[test]
fn publications_are_left_behind_for_a_while() {
    let mut table = table(quiet());
    let (key, mut peer) = publisher(&mut table);
    let subscribe = br#"{"type":"subscribe","channel":"a"}"#;
    say(&mut table, key, &mut peer, &[PUBLISH, subscribe, PUBLISH, PUBLISH, PUBLISH]);
    table.clients.end(key, CloseReason::Lost);
    for now in [Duration::ZERO, ORPHANED_COMMANDS_DEADLINE / 2] {
        table.clients.on_tick(Millis::default() + now);
        let next = table.clients.next_command(key);
        assert!(matches!(next, Some(ClientCommand::Publish(_))), "{next:?}");
    }
    table.clients.on_tick(Millis::default() + ORPHANED_COMMANDS_DEADLINE);
    assert!(table.clients.next_command(key).is_none());
    assert_eq!((table.metrics.client_messages_dropped.get(), table.budget.used()), (1, 0));
    assert!(table.clients.orphans.is_empty());
}

/// Few commands wait, however small they are and however many a client has sent.
#[test]
fn as_many_commands_wait_as_one_short_read_brings() {
    let mut table = table(quiet());
    let (key, mut peer) = table.client(Millis(0));
    let message = masked(0x81, b"");
    peer.write_all(&message.repeat(READ_BUFFER_BYTES / message.len())).unwrap();
    table.read_until(key, Millis(0), |table| table.budget.used() > 0);
    let waiting = entry(&mut table.clients.entries, key).unwrap().queue().unwrap().len();
    assert!(waiting <= COMMANDS_READ_BYTES / message.len(), "{waiting}");
    let mut requests = table.clients.take_requests();
    let Some(Request::Command(_, first, _)) = requests.pop() else { panic!("{requests:?}") };
    let mut published = 0;
    let mut next = Some(first);
    while published < READ_BUFFER_BYTES / message.len() {
        while next.take().is_some() {
            published += 1;
            next = table.clients.next_command(key);
        }
        table
            .clients
            .on_ready(Ready { key, readable: true, writable: false, ended: false }, Millis(0));
        next = table.clients.take_requests().into_iter().find_map(|request| match request {
            Request::Command(_, command, _) => Some(command),
            Request::Abandoned(_) => None,
        });
    }
}

/// Also a client that may not publish leaves no more: its tokens wait for one another, and a
/// pause of a second for each bad one. They used to be a whole buffer.
#[test]
fn commands_without_a_right_are_bounded_as_others() {
    for (published, what) in [(0, "tokens"), (1, "a token and publications")] {
        let mut table = table(quiet());
        let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &[]);
        let mut peer = table.connect_with(key, None, None, Millis(0));
        let later = [BAD_TOKEN, PUBLISH][published];
        let (first, later) = (masked(0x81, BAD_TOKEN), masked(0x81, later));
        let all = [&first[..], &later.repeat(READ_BUFFER_BYTES / later.len())].concat();
        peer.set_nonblocking(true).unwrap();
        assert!(peer.write(&all).unwrap() > 2 * COMMANDS_READ_BYTES);
        table.read_until(key, Millis(0), |table| table.budget.used() > 0);
        let waiting = entry(&mut table.clients.entries, key).unwrap().queue().unwrap().len();
        assert!(waiting <= COMMANDS_READ_BYTES / later.len(), "{what}: {waiting}");
        // Nor are they more when the first ones are done.
        table.clients.take_requests();
        table.clients.renewed(key, Err(TokenError::Signature), Millis(0));
        assert!(table.clients.next_command(key).is_none());
        let ready = Ready { key, readable: true, writable: false, ended: false };
        table.clients.on_ready(ready, Millis(0));
        let still = entry(&mut table.clients.entries, key).unwrap().queue().unwrap().len();
        assert_eq!(still, waiting, "{what}");
    }
}

/// A message that is cut by the end of a read is not late because those before it take long.
#[test]
fn a_message_behind_slow_commands_is_not_late() {
    let mut table = table(quiet());
    let (key, mut peer) = table.client(Millis(0));
    let texts = [masked(0x81, b"slow"), masked(0x81, b"cut")].concat();
    peer.write_all(&texts[..texts.len() - 1]).unwrap();
    table.read_until(key, Millis(0), |table| table.budget.used() > 0);
    let late = Millis(100) + INBOUND_MESSAGE_DEADLINE;
    table.clients.on_tick(late);
    assert_eq!(table.closed(CloseReason::Policy) + u64::from(!table.is_open(key)), 0);
    assert!(table.clients.next_command(key).is_none());
    table.clients.on_tick(late + INBOUND_MESSAGE_DEADLINE + Duration::from_millis(200));
    assert!(!table.is_open(key), "from then on the time is its own");
}

/// A client is not given up for its own commands on their way, unless its system is silent, too.
#[cfg(target_os = "linux")]
#[test]
fn a_half_open_client_with_commands_is_given_up() {
    for (timeout, is_kept) in [(Duration::from_millis(50), false), (PATIENCE * 10, true)] {
        let interval = Some(Duration::from_millis(1));
        let keepalive = keepalive::KeepaliveSettings { interval, timeout };
        let mut table = table(ClientSettings { keepalive, ..settings() });
        let (key, mut peer) = table.client(Millis(0));
        peer.write_all(&masked(0x81, b"slow")).unwrap();
        table.read_until(key, Millis(0), |table| !table.clients.take_requests().is_empty());
        table.clients.on_tick(Millis(PONGLESS));
        read_exactly(&mut peer, b"\x89\x00");
        let age = |table: &Table| {
            let socket = table.clients.hub.outlet(key).unwrap();
            socket.acknowledgement_age(table.clients.hub.shared()).unwrap()
        };
        while age(&table) < Duration::from_millis(100) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        table.clients.on_tick(Millis(2 * PONGLESS));
        assert_eq!(table.is_open(key), is_kept);
    }
}

fn alice() -> VerifiedToken {
    let rights = Rights {
        subscribe: ChannelPatterns::all(),
        publish: ChannelPatterns::all(),
        sub: Some("alice".into()),
        jti: None,
        expires_at: None,
        verified_at: 0,
    };
    VerifiedToken::new(Arc::new(rights), Millis(0), Duration::ZERO)
}

/// A right that has ended ends what waits on it, also of clients that are going, or gone.
#[test]
fn publications_end_with_their_right() {
    let selector = Selector::Bearer(Bearer::Subject("alice".into()));
    for (may_return, ends) in [(false, true), (true, false)] {
        let away = Disconnection { selector: selector.clone(), may_return, banned_for: None };
        for state in ["closing", "closed", "gone"] {
            let mut table = table(quiet());
            let key = table.clients.admit(Endpoint::Ws, Encoding::V1, &[]);
            let credential = Some(Credential::Token(alice()));
            let mut peer = table.connect_with(key, None, credential, Millis(0));
            say(&mut table, key, &mut peer, &[PUBLISH, PUBLISH]);
            match state {
                "closing" => {
                    let restart = CloseMessage::Restart { retry_ms: 1 };
                    table.clients.close_with(key, restart, Finish::Log);
                }
                "closed" => table.clients.close(key, CloseReason::GoingAway),
                _ => table.clients.end(key, CloseReason::Client),
            }
            assert_eq!(table.clients.disconnect(&away, Millis(1)), 0, "none is open");
            table.clients.on_tick(Millis(50));
            assert_eq!(table.clients.next_command(key).is_none(), ends, "{state} {may_return}");
            assert!(table.clients.next_command(key).is_none());
            assert_eq!(table.budget.used(), 0);
        }
    }
}

/// A bearer that is sent away publishes nothing more, though its close has yet to begin.
#[test]
fn a_client_sent_away_publishes_nothing_more() {
    for encoding in [Encoding::Plain, Encoding::V1] {
        let mut table = table(quiet());
        let key = table.clients.admit(Endpoint::Ws, encoding, &[ChannelName::default_channel()]);
        let credential = Some(Credential::Token(alice()));
        let mut peer = table.connect_with(key, None, credential, Millis(0));
        let selector = Selector::Bearer(Bearer::Subject("alice".into()));
        let away = Disconnection { selector, may_return: false, banned_for: None };
        assert_eq!(table.clients.disconnect(&away, Millis(1)), 1);
        peer.write_all(&masked(0x81, PUBLISH)).unwrap();
        let dropped = |table: &Table| table.metrics.client_messages_dropped.get();
        table.read_until(key, Millis(1), |table| dropped(table) == 1);
        assert!(table.clients.take_requests().is_empty());
        table.clients.on_tick(Millis(50));
        assert!(!table.is_open(key));
    }
}
