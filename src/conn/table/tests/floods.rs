//! Clients that send more than they should, at the wrong moment, or leave right after.

use super::*;
use crate::limits::READ_BUFFER_BYTES;

/// Reads for `key` until the table asks for something.
fn requests_of(table: &mut Table, key: Key) -> Vec<Request> {
    let mut requests = Vec::new();
    table.read_until(key, Millis(0), |table| {
        requests.append(&mut table.clients.take_requests());
        !requests.is_empty()
    });
    requests
}

/// A client that sends three messages and closes in one breath has sent all three.
#[test]
fn three_commands_and_a_close_at_once_are_all_done() {
    let mut table = table(settings());
    let (key, mut peer) = table.client(Millis(0));
    let mut all: Vec<u8> = [&b"a"[..], b"b", b"c"].map(|text| masked(0x81, text)).concat();
    all.extend(masked(0x88, &[0x03, 0xe8]));
    peer.write_all(&all).unwrap();
    let requests = requests_of(&mut table, key);
    table.read_until(key, Millis(0), |table| table.clients.is_empty());
    assert_eq!(close_code(&mut peer), 1000);
    assert_eq!(told(&mut table, requests, key), ["a", "b", "c"]);
    assert_eq!(table.budget.used(), 0);
}

/// The messages that a client sent before the server closed it are published and given back to the
/// budget.
#[test]
fn a_closed_clients_messages_are_published() {
    let mut table = table(settings());
    let (key, mut peer) = table.client(Millis(0));
    peer.write_all(&[masked(0x81, b"a"), masked(0x81, b"b")].concat()).unwrap();
    let requests = requests_of(&mut table, key);
    table.clients.close(key, CloseReason::PingTimeout);
    assert_eq!(close_code(&mut peer), 4408);
    assert_eq!(told(&mut table, requests, key), ["a", "b"]);
    assert_eq!(table.budget.used(), 0);
}

/// Many tiny messages of many clients are bounded by the budget.
#[test]
fn many_tiny_messages_are_bounded_by_the_budget() {
    let mut table = table_within(quiet(), 1 << 20);
    let flood = masked(0x81, b"x").repeat(READ_BUFFER_BYTES / 7);
    let mut closed = 0;
    // Each has 75 KB waiting.
    for _ in 0..28 {
        let (key, mut peer) = table.client(Millis(0));
        peer.write_all(&flood).unwrap();
        requests_of(&mut table, key);
        assert!(table.budget.used() <= 1 << 20);
        peer.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        closed += u32::from(matches!(peer.read(&mut [0; 4]), Ok(4)));
    }
    assert!(closed >= 8, "those past the budget are closed: {closed}");
}

/// An unfinished message is not closed for the memory of logs.
#[test]
fn an_unfinished_message_does_not_pay_for_the_logs() {
    let mut table = table_within(quiet(), 2 << 20);
    // Not yet connected: it takes nothing, so everything waits in the log.
    let _behind = table.admit();
    for _ in 0..16 {
        table.broadcast(&"x".repeat(64 << 10));
    }
    let (key, mut peer) = table.client(Millis(0));
    let others = (2 << 20) - table.budget.used();
    table.budget.charge(others);
    peer.write_all(&masked(0x01, b"begun")).unwrap();
    let is_amid_a_message = |table: &mut Table| {
        entry(&mut table.clients.entries, key).is_none_or(|entry| !entry.decoder.is_idle())
    };
    table.read_until(key, Millis(0), is_amid_a_message);
    assert!(!table.budget.over());
    let state = entry(&mut table.clients.entries, key).map(|entry| entry.state());
    assert_eq!(
        state,
        Some(ClientState::Open),
        "whoever is behind in the log gives way, not this one"
    );
}

/// The part that has come of a long message to publish costs its length, though many short ones
/// would be read in pieces: or a client in its middle would use up others' room.
#[test]
fn a_long_message_costs_no_more_than_has_come() {
    let mut table = table(quiet());
    let (key, mut peer) = table.client(Millis(0));
    peer.write_all(&begun(40_000)).unwrap();
    let until = |table: &mut Table| table.budget.used() >= 40_000;
    table.read_until(key, Millis(0), until);
    let used = table.budget.used();
    assert!(used < 41_000, "{used} bytes");
}

#[test]
fn a_flood_of_pings_is_answered_whole_and_in_order() {
    let mut table = table(quiet());
    let (key, mut peer) = table.client(Millis(0));
    let pings: Vec<u8> = (0..1000_u16).flat_map(|n| masked(0x89, &n.to_be_bytes())).collect();
    let pongs: Vec<u8> =
        (0..1000_u16).flat_map(|n| [&[0x8a, 2][..], &n.to_be_bytes()].concat()).collect();
    peer.write_all(&pings).unwrap();
    table.read_until(key, Millis(0), |_| peer_has(&peer, pongs.len()));
    read_exactly(&mut peer, &pongs);
    assert_eq!(table.budget.used(), 0);
}

fn peer_has(peer: &TcpStream, bytes: usize) -> bool {
    peer.set_nonblocking(true).unwrap();
    let has = peer.peek(&mut vec![0; bytes]).is_ok_and(|count| count >= bytes);
    peer.set_nonblocking(false).unwrap();
    has
}

/// An answer that waited in the kernel while the shard slept saves its client.
#[test]
fn an_answer_in_the_kernel_saves_its_client() {
    let mut table = table(settings());
    let (_, mut peer) = table.client(Millis(0));
    table.clients.on_tick(Millis(25_100));
    read_exactly(&mut peer, b"\x89\x00");
    peer.write_all(&masked(0x8a, b"")).unwrap();
    // On loopback the bytes are there once the peer's kernel has sent them.
    table.clients.on_tick(Millis(90_000));
    assert_eq!(table.metrics.connections_closed.get(CloseReason::PingTimeout as usize), 0);
    table.clients.on_tick(Millis(93_000));
    assert_eq!(table.clients.live(), 1);
}

/// A client that is not read because of its own messages is not given up.
#[test]
fn a_client_held_back_by_its_own_messages_is_kept() {
    let mut table = table(settings());
    let (key, mut peer) = table.client(Millis(0));
    peer.write_all(&masked(0x81, b"slow broker")).unwrap();
    requests_of(&mut table, key);
    for second in [26, 47, 70, 93] {
        table.clients.on_tick(Millis(second * 1000));
    }
    table.clients.on_tick(Millis(100_000));
    assert_eq!(table.clients.live(), 1);
    let mut head = [0; 2];
    peer.read_exact(&mut head).unwrap();
    assert_eq!(head, *b"\x89\x00", "a ping, no Close");
}

/// A stream of pings cut within frames is no message that never ends.
#[test]
fn pings_cut_amid_frames_are_no_endless_message() {
    let mut table = table(quiet());
    let (key, _peer) = table.client(Millis(0));
    let ping = masked(0x89, b"12345");
    let mut cut = [&ping[..3]].concat();
    for second in 0..130 {
        table.clients.now = Millis(second * 1000);
        table.clients.on_input(key, &mut cut);
        table.clients.handle_hub_events();
        cut = [&ping[3..], &ping[..3]].concat();
        table.clients.on_tick(Millis(second * 1000));
    }
    assert_eq!(table.clients.live(), 1);
    assert_eq!(table.metrics.connections_closed.get(CloseReason::Policy as usize), 0);
}

#[test]
fn a_handshake_under_way_at_the_end_is_nobody_cut_off() {
    let mut table = table(settings());
    table.admit();
    let window = Duration::from_secs(3);
    let machine = crate::drain::Machine::new(crate::drain::DrainSettings {
        pre_delay: Duration::ZERO,
        timeout: window,
        close_over: window,
    });
    table.control.publish(&machine, crate::drain::Phase::Stopped);
    let mut left = table.clients.keys();
    assert!(table.clients.close_some(&mut left, Millis(600), &mut || true));
    table.clients.drop_all();
    assert!(table.clients.is_empty());
    assert_eq!(table.control.barrier.cut_off(), 0);
    assert_eq!(table.budget.used(), 0);
}

/// The message that a closed client had begun to send is let go at once.
#[test]
fn a_closed_clients_unfinished_message_is_dropped() {
    let mut table = table_within(quiet(), 1 << 20);
    let (key, mut peer) = table.client(Millis(0));
    peer.write_all(&masked(0x01, b"begun")).unwrap();
    table.read_until(key, Millis(0), |table| table.budget.used() > 0);
    let held = table.budget.used();
    table.clients.close(key, CloseReason::Policy);
    peer.write_all(b"x").unwrap();
    table.read_until(key, Millis(0), |table| table.budget.used() < held);
    let entry = entry(&mut table.clients.entries, key).unwrap();
    assert_eq!(entry.decoder.held_bytes(), 0, "not merely uncharged");
}

#[test]
fn echoes_that_nobody_reads_are_bounded_by_the_budget() {
    let mut table = table_within(quiet(), 1 << 20);
    let mut keys = Vec::new();
    for _ in 0..40 {
        // Not yet connected: it takes nothing.
        let key = table.clients.admit(Endpoint::Echo, Encoding::Plain, &[]);
        keys.push(key);
        for _ in 0..500 {
            table.clients.on_input(key, &mut masked(0x82, &[b'x'; 120]));
        }
        table.clients.handle_hub_events();
    }
    let mut is_closing = |&key: &Key| {
        let state = entry(&mut table.clients.entries, key).map(|entry| entry.state());
        state != Some(ClientState::Open)
    };
    let closing = keys.iter().filter(|key| is_closing(key)).count();
    assert!(table.budget.used() < 1100 << 10, "{}", table.budget.used());
    assert!(closing > 10, "those past it are closed: {closing}");
}

/// A client that comes during the closing window is closed with 1012 like the others.
#[test]
fn a_client_in_the_closing_window_is_closed_1012() {
    let mut table = table(quiet());
    let (_, mut first) = table.client(Millis(0));
    let (window, alone) = (Duration::from_secs(10), crate::drain::PaceShare { index: 0, of: 1 });
    table.clients.begin_paced_close(Millis(0), window, Duration::ZERO, alone);
    assert_eq!(close_code(&mut first), 1012);
    let (_, mut late) = table.client(Millis(1000));
    table.clients.on_tick(Millis(9000));
    assert_eq!(close_code(&mut late), 1012);
}

/// A paced close that is called off leaves those in peace that it has not reached, and a later one
/// begins anew with them.
#[test]
fn a_paced_close_that_was_called_off_closes_nobody() {
    const CLIENTS: usize = 10;
    let mut table = table(quiet());
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| table.client(Millis(0)).1).collect();
    let (window, alone) = (Duration::from_secs(10), crate::drain::PaceShare { index: 0, of: 1 });
    table.clients.begin_paced_close(Millis(0), window, Duration::ZERO, alone);
    table.clients.on_tick(Millis(4_000));
    let is_open = |table: &mut Table, key: &Key| {
        entry(&mut table.clients.entries, *key)
            .is_some_and(|entry| entry.state() == ClientState::Open)
    };
    let keys = table.clients.keys();
    let open = |table: &mut Table| keys.iter().filter(|key| is_open(table, key)).count();
    let left = open(&mut table);
    assert!((3..=7).contains(&left), "{left}");
    table.clients.end_paced_close();
    table.clients.on_tick(Millis(9_900));
    assert_eq!(open(&mut table), left);
    table.clients.begin_paced_close(Millis(20_000), window, Duration::ZERO, alone);
    table.clients.on_tick(Millis(29_900));
    assert_eq!(open(&mut table), 0);
    for peer in &mut peers {
        assert_eq!(close_code(peer), 1012);
    }
}

/// Clients that are due together are worked off in slices. 3,000 clients that fell out together
/// were cut in one turn of 135 ms, in which no client was served.
#[test]
fn clients_due_together_are_ended_in_slices() {
    const CLIENTS: usize = 40;
    let mut table = table(settings());
    let peers: Vec<_> = (0..CLIENTS).map(|_| table.client(Millis(0))).collect();
    // No client answers: all are pinged together, given up together, dropped together.
    for now in [25_100, 46_000, 49_000] {
        table.clients.begin_tick(Millis(now));
        let mut slices = 0;
        let mut asked = 0;
        while !table.clients.work_off(&mut || {
            asked += 1;
            asked % 4 != 0
        }) {
            slices += 1;
            assert!(slices <= CLIENTS, "each slice gets on");
        }
        assert!(slices >= CLIENTS / 4, "{slices} at {now}");
    }
    assert_eq!(table.clients.live(), 0);
    drop(peers);
    let (window, alone) = (Duration::ZERO, crate::drain::PaceShare { index: 0, of: 1 });
    let peers: Vec<_> = (0..CLIENTS).map(|_| table.client(Millis(49_000))).collect();
    table.clients.begin_paced_close(Millis(49_000), window, Duration::ZERO, alone);
    let mut budget = 10;
    let mut few = || {
        budget -= 1;
        budget > 0
    };
    assert!(!table.clients.work_off(&mut few), "the paced closing stops, too");
    assert!(table.clients.work_off(&mut || true));
    for (_, mut peer) in peers {
        assert_eq!(close_code(&mut peer), 1012);
    }
}

#[test]
fn the_last_ones_are_closed_and_dropped_in_slices() {
    const CLIENTS: usize = 40;
    let mut table = table(quiet());
    let mut peers: Vec<_> = (0..CLIENTS).map(|_| table.client(Millis(0)).1).collect();
    let few = |asked: &mut usize| {
        *asked += 1;
        !asked.is_multiple_of(4)
    };
    let (mut left, mut asked, mut slices) = (table.clients.keys(), 0, 0);
    while !table.clients.close_some(&mut left, Millis(600), &mut || few(&mut asked)) {
        slices += 1;
        assert!(slices <= CLIENTS, "each slice gets on");
    }
    assert!(slices >= CLIENTS / 4);
    assert!(peers.iter_mut().all(|peer| close_code(peer) == 1001));
    let (mut left, mut slices) = (table.clients.keys(), 0);
    assert_eq!(left.len(), CLIENTS);
    while !table.clients.drop_some(&mut left, &mut || few(&mut asked)) {
        slices += 1;
        assert!(slices <= CLIENTS, "each slice gets on");
    }
    assert!(slices >= CLIENTS / 4);
    assert!(table.clients.is_empty());
}
