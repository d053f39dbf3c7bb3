//! Clients that never leave: paced closes in the closing window, and the hard limit kept.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    PATIENCE, client::Client, eventually, frames::masked_close, http::get, now, publish::Publisher,
    server::Server,
};

/// A client that stays until it is closed: when, with which code and reason.
fn stay(mut client: Client) -> thread::JoinHandle<(Instant, u16, String)> {
    thread::spawn(move || {
        let (_, (code, reason)) = client.texts_until_close();
        let closed = now();
        client.http.try_send(masked_close(code, ""));
        (closed, code, reason)
    })
}

/// The N of `service restart; retry in N ms`.
fn retry_ms(reason: &str) -> u64 {
    reason
        .strip_prefix("service restart; retry in ")
        .and_then(|rest| rest.strip_suffix(" ms")?.parse().ok())
        .unwrap_or_else(|| panic!("the promised text: {reason:?}"))
}

/// The clients that remain are closed with 1012, evenly paced, each with its own retry hint.
#[test]
fn closing_is_evenly_paced_with_retry_hints() {
    const CLIENTS: usize = 60;
    const WINDOW_MS: u64 = 3000;
    let mut server =
        Server::start(&["--threads", "3", "--drain-timeout", "4s", "--drain-close-over", "3s"]);
    let addr = server.addr();
    let clients: Vec<_> = (0..CLIENTS).map(|_| stay(Client::connect(addr))).collect();
    let start = now();
    server.signal(&["TERM"]);
    let mut ends: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    ends.sort();
    server.assert_exit(0);
    let total = start.elapsed();
    assert!(total < Duration::from_secs(8), "the limit of 4 s is kept: {total:?}");

    let first = ends[0].0 - start;
    assert!(first >= Duration::from_millis(800), "not before the window: {first:?}");
    let hints: Vec<u64> = ends
        .iter()
        .map(|(_, code, reason)| {
            assert_eq!(*code, 1012, "{reason}");
            retry_ms(reason)
        })
        .collect();
    assert!(hints.iter().all(|&hint| hint <= WINDOW_MS), "{hints:?}");
    let below_half = hints.iter().filter(|&&hint| hint < WINDOW_MS / 2).count();
    assert!((10..=50).contains(&below_half), "spread over the window: {hints:?}");

    // Evenly: no third of the window takes much more than a third of the clients.
    let span = ends[CLIENTS - 1].0 - ends[0].0;
    assert!(span > Duration::from_millis(1500), "over the window: {span:?}");
    for third in 0..3_u32 {
        let within = |at: &Instant| {
            let elapsed = *at - ends[0].0;
            elapsed >= span * third / 3 && elapsed < span * (third + 1) / 3
        };
        let count = ends.iter().filter(|(at, _, _)| within(at)).count();
        assert!((8..=35).contains(&count), "{count} of {CLIENTS} in one third");
    }
}

/// A window as long as the timeout begins to close clients at once.
#[test]
fn a_window_of_the_whole_timeout_closes_at_once() {
    let mut server = Server::start(&["--drain-timeout", "10s", "--drain-close-over", "10s"]);
    let clients: Vec<_> = (0..10).map(|_| stay(Client::connect(server.addr()))).collect();
    server.signal(&["TERM"]);
    eventually(PATIENCE, "closing has begun", || {
        !server.is_running() || server.log().contains("closing")
    });
    for client in clients {
        let (_, code, reason) = client.join().unwrap();
        assert_eq!(code, 1012);
        assert!(retry_ms(&reason) <= 10_000, "{reason}");
    }
    server.assert_exit(0);
}

/// A short timeout without a given window is all window.
#[test]
fn a_short_timeout_is_all_window_by_default() {
    let mut server = Server::start(&["--threads", "1", "--drain-timeout", "5s"]);
    let client = stay(Client::connect(server.addr()));
    server.signal(&["TERM"]);
    let (_, code, reason) = client.join().unwrap();
    assert_eq!(code, 1012);
    assert!(retry_ms(&reason) <= 5000, "{reason}");
    server.assert_exit(0);
}

#[test]
fn a_client_gets_its_messages_up_to_its_close() {
    let mut server = Server::start(&["--drain-timeout", "3s", "--drain-close-over", "2s"]);
    let addr = server.addr();
    let mut clients: Vec<Client> = (0..10).map(|_| Client::connect(addr)).collect();
    server.signal(&["TERM"]);
    let publisher = thread::spawn(move || {
        let mut publisher = Publisher::new(addr);
        (0..10_000_u32)
            .map_while(|number| publisher.try_publish(format!("{number}")))
            .filter(|answer| answer.status == 202)
            .count()
    });
    for client in &mut clients {
        let (texts, (code, _)) = client.texts_until_close();
        assert_eq!(code, 1012);
        client.http.try_send(masked_close(code, ""));
        let numbers: Vec<u32> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let up_to_its_end: Vec<u32> = (0..numbers.len() as u32).collect();
        assert!(numbers == up_to_its_end, "without a hole until its close: {}", numbers.len());
        assert!(!numbers.is_empty());
    }
    server.assert_exit(0);
    assert!(publisher.join().unwrap() > 0);
}

/// A client that takes nothing is cut off at the hard limit, and the exit code is 3.
#[test]
fn at_the_hard_limit_a_stuck_client_ends_with_code_3() {
    let mut server = Server::start(&["--drain-timeout", "1s"]);
    let _stalled = Client::with_little_room(server.addr(), "/ws");
    let mut publisher = Publisher::new(server.addr());
    for _ in 0..6 {
        publisher.publish_to_all("x".repeat(1000 * 1000));
    }
    let start = now();
    server.signal(&["TERM"]);
    server.assert_exit(3);
    assert!(start.elapsed() < Duration::from_secs(6), "{:?}", start.elapsed());
}

/// The limit counts from the first signal pre delay included.
#[test]
fn the_limit_counts_from_the_first_signal() {
    let mut server =
        Server::start(&["--threads", "1", "--drain-timeout", "10s", "--drain-pre-delay", "5s"]);
    let client = stay(Client::connect(server.addr()));
    let start = now();
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || {
        !server.is_running() || get(server.addr(), "/readyz").status == 503
    });
    let (closed, code, reason) = client.join().unwrap();
    assert_eq!(code, 1012, "{reason}");
    assert!(retry_ms(&reason) <= 5000, "the window is what timeout − pre-delay leaves: {reason}");
    assert!(closed - start >= Duration::from_millis(4900), "{:?}", closed - start);
    server.assert_exit(0);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// All clients are closed with 1001 at once when there is no time to drain.
#[test]
fn without_time_to_drain_everyone_is_closed_1001() {
    let mut server = Server::start(&["--drain-timeout", "0s"]);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(server.addr())).collect();
    let start = now();
    server.signal(&["TERM"]);
    for client in &mut clients {
        assert_eq!(client.close_frame().0, 1001);
    }
    server.assert_exit(0);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
