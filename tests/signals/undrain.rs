//! A drain that an operator takes back: new clients are let in, and the next drain is a new one.

use std::time::Duration;

use serde_json::Value;

use crate::support::{
    PATIENCE,
    client::{Client, Event},
    events::Events,
    eventually,
    frames::masked_close,
    http::{Http, Response, get, post},
    let_pass,
    metrics::metric,
    publish::Publisher,
    server::Server,
    v1::V1,
};

/// Longer than signals count as one.
const APART: Duration = Duration::from_millis(450);

fn start(more: &[&str]) -> Server {
    Server::start(&[&["--admin-listen", "127.0.0.1:0"][..], more].concat())
}

fn undrain(server: &Server, query: &str) -> Response {
    post(server.admin(), &format!("/admin/undrain{query}"), "")
}

fn phase(server: &Server) -> Value {
    get(server.admin(), "/admin/drain").json()["phase"].clone()
}

#[track_caller]
fn assert_conflict(answer: &Response, word: &str) {
    answer.assert_status(409);
    assert_eq!(answer.json()["error"], word, "{}", answer.text());
}

/// New clients are let in, readiness is green, connections stay, and the process goes on without
/// clients.
#[test]
fn everything_is_as_before_the_drain() {
    let mut server = start(&["--threads", "2"]);
    let addr = server.addr();
    assert_conflict(&undrain(&server, ""), "serving");
    let client = Client::connect(addr);
    for _ in 0..3 {
        post(server.admin(), "/admin/drain", "").assert_status(202);
        let refused = Client::try_connect(addr).expect_err("no new client");
        assert_eq!(refused.status, 503);
        let answer = undrain(&server, "");
        answer.assert_status(200);
        assert_eq!(answer.json()["phase"], "serving");
        assert_eq!(answer.json()["seconds_left"], Value::Null);
        assert_eq!(get(addr, "/readyz").status, 200);
        assert_eq!(metric(server.admin(), "wsbcast_drain_phase", &[]), 0.0);
        let mut http = Http::connect(addr);
        let ask = || format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n");
        for _ in 0..2 {
            assert!(http.request(ask()).header_is("connection", "keep-alive"));
        }
        Client::connect(addr).leave();
    }
    client.leave();
    eventually(PATIENCE, "nobody is there", || {
        get(server.admin(), "/admin/drain").json()["clients"] == 0
    });
    Client::connect(addr).leave();
    assert!(server.is_running(), "the last client ends no drain that is over");
    assert_conflict(&undrain(&server, ""), "serving");
    server.signal(&["TERM"]);
    server.assert_exit(0);
}

/// From closing, too: those that were closed are gone, all others stay, and none of these was told
/// anything.
#[test]
fn those_whom_no_close_has_reached_stay() {
    let mut server = start(&["--threads", "2"]);
    let addr = server.addr();
    let mut clients: Vec<_> = (0..60).map(|_| Client::connect(addr)).collect();
    let mut v1 = V1::open(addr, "/ws?channel=notifications");
    let mut stream = Events::open(addr, "/sse?channel=notifications");
    post(server.admin(), "/admin/drain?now=true&timeout=10m&close-over=20s", "").assert_status(202);
    let mut take_closed = || {
        clients.retain_mut(|client| {
            let Some(event) = client.event_within(Duration::from_millis(5)) else { return true };
            let Event::Frame(frame) = event else { panic!("{event:?}") };
            assert_eq!(frame.close().0, 1012);
            client.http.try_send(masked_close(1012, ""));
            false
        });
        clients.len()
    };
    eventually(PATIENCE, "the first is closed", || take_closed() < 60);
    undrain(&server, "").assert_status(200);
    // The shards know it in a moment, in which one or the other client may yet be closed.
    let_pass(Duration::from_millis(500));
    let left = take_closed();
    assert!(left > 10, "{left} are left");
    // Several more would be closed in this time.
    let_pass(Duration::from_millis(1500));
    Publisher::new(addr).publish_to_all("still served");
    for client in &mut clients {
        client.assert_text("still served");
    }
    // Each of the two is one of 62, closed with its own word before its end, or left in peace.
    match v1.next() {
        told if told["type"] == "drain" => drop(v1.client.assert_closed(1012)),
        message => assert_eq!(message["data"], "still served"),
    }
    let block = stream.event();
    assert!(block.event == "drain" || block.data.as_deref() == Some("still served"), "{block:?}");
    assert_eq!(phase(&server), "serving");
    let newcomer = Client::connect(addr);
    newcomer.leave();
    post(server.admin(), "/admin/drain?now=true&timeout=1m&close-over=2s", "").assert_status(202);
    for mut client in clients {
        client.assert_closed(1012);
        client.http.try_send(masked_close(1012, ""));
    }
    server.assert_exit(0);
}

/// A signal's drain is taken back by force only, and then the next signal is a first one.
#[test]
fn a_signals_drain_is_taken_back_by_force() {
    let mut server = start(&[]);
    let mut client = Client::connect(server.addr());
    for _ in 0..3 {
        server.signal(&["TERM"]);
        eventually(PATIENCE, "it drains", || phase(&server) == "waiting");
        assert_conflict(&undrain(&server, ""), "stopping");
        assert_conflict(&undrain(&server, "?force=false"), "stopping");
        let_pass(APART);
        undrain(&server, "?force=true").assert_status(200);
        Client::connect(server.addr()).leave();
        Publisher::new(server.addr()).publish_to_all("still served");
        client.assert_text("still served");
    }
    for query in ["?force", "?force=1", "?force=true&force=true", "?forced=true", "?now=true"] {
        let answer = undrain(&server, query);
        answer.assert_status(400);
        assert_eq!(answer.json()["error"], "bad_request", "{query}");
    }
    server.signal(&["TERM"]);
    eventually(PATIENCE, "it drains", || phase(&server) == "waiting");
    let_pass(APART);
    server.signal(&["TERM"]);
    client.assert_closed(1001);
    server.assert_exit(0);
}

/// Three signals before and two after a drain that was taken back do not add up to a hard end.
#[test]
fn forgotten_signals_do_not_count_for_the_hard_end() {
    let mut server = start(&[]);
    let client = Client::connect(server.addr());
    for _ in 0..4 {
        server.signal(&["TERM"]);
        eventually(PATIENCE, "it drains", || phase(&server) == "waiting");
        undrain(&server, "?force=true").assert_status(200);
        let_pass(APART);
    }
    assert!(server.is_running());
    server.signal(&["TERM"]);
    eventually(PATIENCE, "it drains", || phase(&server) == "waiting");
    client.leave();
    server.assert_exit(0);
}

/// A drain that is asked for over HTTP becomes a supervisor's with its signal.
#[test]
fn a_pre_stop_hooks_drain_is_not_taken_back() {
    let mut server = start(&[]);
    let client = Client::connect(server.addr());
    post(server.admin(), "/admin/drain", "").assert_status(202);
    server.signal(&["TERM"]);
    server.wait_for_log(&["first signal", "POST /admin/drain"]);
    assert_conflict(&undrain(&server, ""), "stopping");
    client.leave();
    server.assert_exit(0);
}

/// A new client is let in at once also where the pre-delay was not over, and the next drain has a
/// pre-delay again.
#[test]
fn the_next_drain_is_a_new_one() {
    let mut server = start(&["--drain-pre-delay", "5m"]);
    let client = Client::connect(server.addr());
    post(server.admin(), "/admin/drain", "").assert_status(202);
    assert_eq!(phase(&server), "pre-delay");
    undrain(&server, "").assert_status(200);
    assert_eq!(get(server.addr(), "/readyz").status, 200);
    let answer = post(server.admin(), "/admin/drain?timeout=1h", "");
    answer.assert_status(202);
    assert_eq!(answer.json()["phase"], "pre-delay");
    post(server.admin(), "/admin/drain?now=true&timeout=0", "").assert_status(200);
    drop(client);
    server.assert_exit(0);
}

#[test]
fn an_undrain_needs_the_right_to_administer() {
    let mut server = start(&["--api-token", "correct-horse-battery-staple"]);
    undrain(&server, "").assert_status(401);
    post(server.addr(), "/admin/undrain", "").assert_status(401);
    assert_eq!(get(server.admin(), "/admin/undrain").status, 405);
    server.signal(&["TERM"]);
    server.assert_exit(0);
}
