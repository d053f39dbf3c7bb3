//! The drain while clients stay: what goes on, what is refused, and when it ends.

use std::{net::SocketAddr, time::Duration};

use crate::support::{
    PATIENCE,
    client::{Client, upgrade_request},
    eventually,
    frames::{PING, PONG, masked},
    http::{Arrival, Http, get, once, post},
    metrics::Metrics,
    now,
    publish::Publisher,
    server::{Launch, Server},
};

/// From the last client's leaving to the end of the process: promised are 50 ms, asserted is
/// that no deadline of the program (the shortest is a second) was waited for.
const PROMPTLY: Duration = Duration::from_millis(900);

fn wait_until_draining(server: &Server) {
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
}

/// A server without clients ends at the first signal, with code 0.
#[test]
fn without_clients_a_signal_ends_it_at_once() {
    for name in ["TERM", "INT", "QUIT"] {
        let mut server = Server::start(&[]);
        server.signal(&[name]);
        let start = now();
        server.assert_exit(0);
        assert!(start.elapsed() < Duration::from_secs(5), "{name}: {:?}", start.elapsed());
    }
}

/// Signals drain it also where the parent blocked or ignored them.
/// A parent's mask and ignored signals are inherited, and a server that nobody can drain with it.
#[test]
fn blocked_or_ignored_signals_drain_it_too() {
    let blocked = "exec env --block-signal=TERM,INT,QUIT \"$0\" \"$@\"";
    for before in [blocked, "trap '' TERM INT QUIT"] {
        for name in ["TERM", "INT", "QUIT"] {
            let mut server = Launch::on_a_free_port(&[]).after(before).start();
            server.signal(&[name]);
            server.assert_exit(0);
        }
    }
}

/// Readiness is red at once and new clients are told to come later.
#[test]
fn readiness_is_red_at_once_while_draining() {
    let mut server = Server::start(&["--echo", "--admin-listen", "127.0.0.1:0"]);
    let addr = server.addr();
    let client = Client::connect(addr);
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    for addr in [addr, server.admin()] {
        let reasons = get(addr, "/readyz").json()["reasons"].to_string();
        assert!(reasons.contains("draining"), "{reasons}");
        assert_eq!(get(addr, "/livez").status, 200, "alive all the same");
    }
    for target in ["/ws", "/ws?channel=a", "/echo"] {
        let mut http = Http::connect(addr);
        let response = http.request(upgrade_request(addr, target, ""));
        response.assert_status(503);
        assert_eq!(response.header("retry-after"), Some("5"), "{target}");
        assert!(response.header_is("connection", "close"), "{target}: {response:?}");
        http.assert_end();
    }
    let metrics = Metrics::of(server.admin());
    let labels = ["reason=\"draining\""];
    assert_eq!(metrics.sum("wsbcast_handshakes_rejected_total", &labels), 3.0);
    assert_eq!(metrics.sum("wsbcast_drain_remaining_connections", &[]), 1.0);
    client.leave();
    server.assert_exit(0);
}

#[test]
fn clients_keep_everything_while_it_waits() {
    let mut server =
        Server::start(&["--client-publish", "broadcast", "--notify-interval", "300ms"]);
    let addr = server.addr();
    let mut one = Client::connect(addr);
    let mut two = Client::connect(addr);
    server.signal(&["INT"]);
    wait_until_draining(&server);
    assert_eq!(Publisher::new(addr).publish("from curl").status, 202);
    one.send_text("from a client");
    one.send(masked(true, PING, b"and pongs"));
    let mut pongs = 0;
    let mut texts = Vec::new();
    let start = now();
    while texts.len() < 5 || pongs == 0 {
        assert!(start.elapsed() < PATIENCE, "{texts:?}");
        let frame = one.frame();
        if frame.opcode == PONG { pongs += 1 } else { texts.push(frame.text()) }
    }
    for text in ["from curl", "from a client"] {
        assert_eq!(texts.iter().filter(|t| *t == text).count(), 1, "{texts:?}");
    }
    let notices = texts.iter().filter(|text| text.starts_with("Periodic")).count();
    assert!(notices >= 2, "the notice goes on: {texts:?}");
    let of_the_other: Vec<String> = texts.iter().map(|_| two.text()).collect();
    assert_eq!(of_the_other, texts, "the same for the other");
    two.leave();
    one.leave();
    server.assert_exit(0);
}

/// It ends promptly when the last client leaves whatever idle connections exist.
#[test]
fn idle_connections_do_not_delay_the_end() {
    let mut server = Server::start(&["--threads", "3"]);
    let addr = server.addr();
    let mut silent = Http::connect(addr);
    let mut kept_alive = Http::connect(addr);
    kept_alive.request(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    let client = Client::connect(addr);
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    let mut later = Http::connect(addr);
    client.leave();
    let left = now();
    server.assert_exit(0);
    assert!(left.elapsed() < PROMPTLY, "{:?}", left.elapsed());
    for http in [&mut silent, &mut kept_alive, &mut later] {
        assert_ne!(http.arrival(PATIENCE), Arrival::Bytes, "nothing was asked there");
    }
}

#[test]
fn a_client_that_vanishes_holds_nothing() {
    let mut server = Server::start(&[]);
    let client = Client::connect(server.addr());
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    drop(client);
    let left = now();
    server.assert_exit(0);
    assert!(left.elapsed() < PATIENCE / 2, "{:?}", left.elapsed());
}

#[test]
fn answers_while_draining_end_their_connection() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let client = Client::connect(addr);
    let mut idle = Http::connect(addr);
    idle.request(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    idle.assert_end();
    let response = once(addr, format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
    assert_eq!(response.status, 200);
    assert!(response.header_is("connection", "close"), "{response:?}");
    client.leave();
    server.assert_exit(0);
}

#[test]
fn a_request_in_progress_is_answered_before_the_end() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let client = Client::connect(addr);
    let mut publisher = Http::connect(addr);
    publisher
        .send(format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\r\nha"));
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    client.leave();
    publisher.send("lf");
    assert_eq!(publisher.response().status, 202);
    server.assert_exit(0);
}

/// A request that never ends gets a second and no more.
#[test]
fn an_endless_request_gets_a_second() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let mut endless = Http::connect(addr);
    endless
        .send(format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\r\nha"));
    let client = Client::connect(addr);
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    client.leave();
    let left = now();
    server.assert_exit(0);
    assert!(left.elapsed() < Duration::from_secs(5), "{:?}", left.elapsed());
}

/// A publisher that has begun a request and goes no further.
fn endless_request(addr: SocketAddr) -> Http {
    let mut endless = Http::connect(addr);
    endless.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    // The server asks for the body: so the request is in progress.
    assert_eq!(endless.response().status, 100);
    endless
}

/// A request in progress does not keep the door of a server without clients open. A drain without
/// clients used to stay "serving" while it waited for the last request: readiness was green, and
/// new clients were let in and closed a second later.
#[test]
fn a_request_does_not_keep_an_empty_server_open() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let mut publisher = endless_request(addr);
    assert_eq!(get(addr, "/readyz").status, 200);
    server.signal(&["TERM"]);
    server.wait_for_log(&["drain phase", "waiting"]);
    let refused = Client::try_connect(addr).expect_err("nobody is let in any more");
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(get(addr, "/readyz").status, 503);
    publisher.send("half");
    assert_eq!(publisher.response().status, 202);
    server.assert_exit(0);
}

/// An order over HTTP with nobody there answers that it has begun.
#[test]
fn a_drain_with_nobody_there_is_answered() {
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let answer = post(server.admin(), "/admin/drain", "");
    answer.assert_status(202);
    assert_eq!(answer.json()["phase"], "waiting", "{answer:?}");
    server.assert_exit(0);
}

/// No new client comes in while the last request is finished.
#[test]
fn nobody_comes_in_during_the_last_request() {
    let mut server = Server::start(&[]);
    let addr = server.addr();
    let mut slow = Http::connect(addr);
    slow.send(format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\r\nha"));
    // Answered, so the other one's headers have been read, too.
    assert_eq!(get(addr, "/livez").status, 200);
    server.signal(&["TERM"]);
    let refused = loop {
        if let Err(response) = Client::try_connect(addr) {
            break response;
        }
    };
    assert_eq!(refused.status, 503);
    assert_eq!(get(addr, "/readyz").status, 503);
    slow.send("lf");
    let answer = slow.response();
    assert_eq!(answer.status, 202);
    assert!(answer.header_is("connection", "close"), "{answer:?}");
    server.assert_exit(0);
}

/// Busy publishers do not hold the process once the last client has left.
#[test]
fn busy_publishers_do_not_hold_the_drain() {
    let mut server = Server::start(&["--threads", "2"]);
    let addr = server.addr();
    let client = Client::connect(addr);
    let publishers: Vec<_> = (0..12)
        .map(|_| {
            std::thread::spawn(move || {
                let mut publisher = Publisher::new(addr);
                while publisher.try_publish("busy").is_some() {}
            })
        })
        .collect();
    server.signal(&["TERM"]);
    wait_until_draining(&server);
    client.leave();
    let left = now();
    server.assert_exit(0);
    assert!(left.elapsed() < PROMPTLY, "{:?}", left.elapsed());
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

/// New clients are still accepted during the pre-delay.
#[test]
fn the_pre_delay_still_accepts_clients() {
    const PRE_DELAY: Duration = Duration::from_secs(5);
    let mut server = Server::start(&["--drain-pre-delay", "5s"]);
    let addr = server.addr();
    server.signal(&["TERM"]);
    let start = now();
    wait_until_draining(&server);
    // Load balancers have yet to catch up.
    let clients = [Client::connect(addr), Client::connect(addr)];
    assert_eq!(get(addr, "/admin/drain").json()["phase"], "pre-delay");
    eventually(PATIENCE, "then new clients are refused", || {
        Client::try_connect(addr).is_err_and(|response| response.status == 503)
    });
    assert!(start.elapsed() >= PRE_DELAY * 9 / 10, "{:?}", start.elapsed());
    assert_eq!(get(addr, "/admin/drain").json()["phase"], "waiting");
    clients.into_iter().for_each(|client| drop(client.leave()));
    server.assert_exit(0);
}

#[test]
fn with_nobody_there_it_still_waits_out_the_pre_delay() {
    let mut server = Server::start(&["--drain-pre-delay", "1s"]);
    server.signal(&["TERM"]);
    let start = now();
    server.assert_exit(0);
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
}

#[test]
fn an_order_over_http_drains_as_a_signal_does() {
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let addr = server.addr();
    let client = Client::connect(addr);
    let answer = post(server.admin(), "/admin/drain", "");
    assert!(matches!(answer.status, 200 | 202), "{answer:?}");
    wait_until_draining(&server);
    let drain = get(addr, "/admin/drain").json();
    assert_eq!(drain["phase"], "waiting", "{drain}");
    assert!(drain.to_string().contains(":1"), "one client is left: {drain}");
    client.leave();
    server.assert_exit(0);
}

#[test]
fn the_log_tells_how_the_waiting_goes_every_10_s() {
    let mut server = Server::start(&["--drain-timeout", "5m"]);
    let clients = [Client::connect(server.addr()), Client::connect(server.addr())];
    server.signal(&["TERM"]);
    let first = server.wait_for_log(&["SHUTDOWN: Waiting for clients..."]);
    assert!(first.contains('2'), "clients: {first}");
    let lines = |server: &Server| {
        server
            .log()
            .lines()
            .filter(|line| line.contains("SHUTDOWN: Waiting for clients..."))
            .count()
    };
    let start = now();
    eventually(PATIENCE, "a second line", || lines(&server) >= 2);
    server.wait_for_log(&["127.0.0.1:", " on notifications", "a second signal ends it"]);
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
    clients.into_iter().for_each(|client| drop(client.leave()));
    server.assert_exit(0);
}

/// Signals that ask for nothing are logged and ignored.
#[test]
fn signals_without_a_meaning_are_only_logged() {
    let mut server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    for name in ["HUP", "USR1", "USR2"] {
        server.signal(&[name]);
        server.wait_for_log(&[&format!("SIG{name}")]);
    }
    assert_eq!(get(server.addr(), "/readyz").status, 200);
    Publisher::new(server.addr()).publish_to_all("still here");
    client.assert_text("still here");
    Client::connect(server.addr()).leave();
    assert!(server.is_running());
}
