//! A drain that an operator steers: hastened, prolonged, closed now.

use std::{net::SocketAddr, time::Duration};

use serde_json::Value;

use crate::support::{
    PATIENCE,
    client::{Client, Event},
    events::Events,
    eventually,
    frames::masked_close,
    http::{Response, get, post},
    let_pass, now,
    publish::Publisher,
    server::Server,
    v1::V1,
};

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

fn start(more: &[&str]) -> Server {
    Server::start(&[&ADMIN[..], more].concat())
}

fn steer(server: &Server, query: &str) -> Response {
    post(server.admin(), &format!("/admin/drain?{query}"), "")
}

fn drain(server: &Server) -> Value {
    get(server.admin(), "/admin/drain").json()
}

fn clients(addr: SocketAddr, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::connect(addr)).collect()
}

/// Every client gets 1012, and answers.
#[track_caller]
fn assert_all_restarted(clients: Vec<Client>) {
    for mut client in clients {
        let reason = client.assert_closed(1012);
        assert!(reason.starts_with("service restart; retry in "), "{reason}");
        client.http.try_send(masked_close(1012, ""));
    }
}

#[test]
fn an_operator_says_how_long_it_may_take() {
    let mut server = start(&["--threads", "1"]);
    let staying = clients(server.addr(), 3);
    let answer = steer(&server, "timeout=5m&close-over=10s");
    answer.assert_status(202);
    let (phase, left) = (&answer.json()["phase"], answer.json()["seconds_left"].as_u64().unwrap());
    assert!(phase == "waiting" && (290..=300).contains(&left), "{}", answer.text());
    // From now on, longer and shorter.
    for (query, least, most) in [
        ("timeout=2h", 7_190, 7_200),
        ("timeout=20m", 1_190, 1_200),
        ("timeout=1h&close-over=30m", 3_590, 3_600),
    ] {
        let answer = steer(&server, query);
        answer.assert_status(200);
        let left = answer.json()["seconds_left"].as_u64().unwrap();
        assert!((least..=most).contains(&left), "{query}: {}", answer.text());
        assert_eq!(drain(&server)["phase"], "waiting");
    }
    post(server.admin(), "/admin/drain", "").assert_status(200);
    assert!(drain(&server)["seconds_left"].as_u64().unwrap() > 3_500, "nothing new was said");
    server.wait_for_log(&["the drain goes on in another way", "close_over_s=1800"]);
    // The last of the three is closed seconds before the limit.
    steer(&server, "timeout=10s&close-over=10s").assert_status(200);
    assert_all_restarted(staying);
    server.assert_exit(0);
}

/// A wish whose times do not fit together, or that is misspelt, changes nothing.
#[test]
fn a_wish_that_does_not_fit_changes_nothing() {
    let mut server = start(&["--threads", "1", "--drain-pre-delay", "10m"]);
    let client = Client::connect(server.addr());
    for (query, hint) in [
        ("timeout=1m", "pre-delay"),
        ("timeout=11m&close-over=2m", "does not fit"),
        ("close-over=21m", "does not fit"),
        ("now=true&timeout=1s&close-over=2s", "until the limit there are 1s"),
        ("timeout=1m&timeout=1m", "more than one"),
        ("time=1m", "timeout"),
        ("timeout=soon", "duration"),
        ("now=maybe", "true or false"),
    ] {
        let answer = steer(&server, query);
        answer.assert_status(400);
        assert_eq!(answer.json()["error"], "bad_request", "{query}");
        let text = answer.json()["hint"].to_string();
        assert!(text.contains(hint), "{query}: {text}");
        assert_eq!(drain(&server)["phase"], "serving", "{query}");
    }
    steer(&server, "timeout=12m&close-over=2m").assert_status(202);
    assert_eq!(drain(&server)["phase"], "pre-delay");
    Client::connect(server.addr()).leave();
    // No longer than the process has; the only client is closed at once.
    steer(&server, "now=true&timeout=1m&close-over=1m").assert_status(200);
    assert_all_restarted(vec![client]);
    server.assert_exit(0);
}

/// Closing begins now, paced, and ends the drain when it is through.
#[test]
fn closing_begins_now_and_is_paced() {
    let mut server = start(&["--threads", "2", "--drain-close-over", "10s"]);
    let staying = clients(server.addr(), 30);
    let start = now();
    let answer = steer(&server, "now=true");
    answer.assert_status(202);
    assert_eq!(answer.json()["phase"], "closing", "{}", answer.text());
    assert!(answer.json()["seconds_left"].as_u64().unwrap() <= 10);
    // It is at its end well before this limit.
    let answer = steer(&server, "now=true&timeout=1m");
    assert_eq!(answer.json()["phase"], "closing", "{}", answer.text());
    let refused = Client::try_connect(server.addr()).expect_err("new clients are refused");
    assert_eq!(refused.status, 503);
    assert_all_restarted(staying);
    let took = start.elapsed();
    assert!(took >= Duration::from_secs(5), "evenly over the window: {took:?}");
    server.assert_exit(0);
}

/// Takes out the clients that have got their Close.
fn take_closed(staying: &mut Vec<Client>) {
    staying.retain_mut(|client| {
        let Some(event) = client.event_within(Duration::from_millis(5)) else { return true };
        let Event::Frame(frame) = event else { panic!("{event:?}") };
        assert_eq!(frame.close().0, 1012);
        client.http.try_send(masked_close(1012, ""));
        false
    });
}

/// A closing that began too early is called off: those that no Close has reached stay, and keep
/// everything. It begins again when it is due, or is told to.
#[test]
fn a_closing_that_is_prolonged_waits_again() {
    let mut server = start(&["--threads", "2"]);
    let mut staying = clients(server.addr(), 60);
    steer(&server, "now=true&timeout=10m&close-over=15s").assert_status(202);
    eventually(PATIENCE, "the first is closed", || {
        take_closed(&mut staying);
        staying.len() < 60
    });
    let answer = steer(&server, "timeout=1h&close-over=1m");
    answer.assert_status(200);
    assert_eq!(answer.json()["phase"], "waiting", "{}", answer.text());
    // The shards know it in a moment, in which one or the other client may yet be closed.
    let_pass(Duration::from_millis(500));
    take_closed(&mut staying);
    assert!(staying.len() > 10, "{} are left", staying.len());
    // Six more would be closed in this time.
    let_pass(Duration::from_millis(1500));
    Publisher::new(server.addr()).publish_to_all("still served");
    for client in &mut staying {
        client.assert_text("still served");
    }
    let answer = steer(&server, "now=true&close-over=2s");
    assert_eq!(answer.json()["phase"], "closing", "{}", answer.text());
    assert_all_restarted(staying);
    server.assert_exit(0);
}

/// A dry run tells what would happen, and nothing happens.
#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let mut server = start(&["--compression", "on", "--drain-pre-delay", "5s"]);
    let addr = server.addr();
    let staying = clients(addr, 4);
    let mut v1 = V1::open(addr, "/ws");
    let mut stream = Events::open(addr, "/sse?channel=a");
    let ask = |query: &str| {
        let answer = steer(&server, &format!("dry-run=true&{query}"));
        answer.assert_status(200);
        answer.json()
    };
    let told = ask("timeout=125s&close-over=20s");
    assert_eq!((&told["dry_run"], &told["phase"]), (&true.into(), &"serving".into()));
    assert_eq!((&told["clients"], &told["seconds_left"]), (&6.into(), &125.into()), "{told}");
    let kinds = serde_json::json!({"plain": 4, "deflate": 0, "v1": 1, "v1_deflate": 0, "sse": 1});
    assert_eq!(told["clients_by_encoding"], kinds);
    let phases = serde_json::json!([
        {"phase": "pre-delay", "in_seconds": 0.0, "seconds": 5.0},
        {"phase": "waiting", "in_seconds": 5.0, "seconds": 100.0},
        {"phase": "closing", "in_seconds": 105.0, "seconds": 20.0},
    ]);
    assert_eq!(told["phases"], phases);
    assert_eq!((&told["left_at_closing"], &told["closed_1012"]), (&6.into(), &6.into()));
    assert_eq!((&told["closed_1001"], &told["closes_per_second"]), (&0.into(), &0.333.into()));
    assert_eq!(told["leave_rate_per_second"], Value::Null);
    let told = ask("timeout=60s&close-over=0s");
    assert_eq!((&told["closed_1001"], &told["closed_1012"]), (&6.into(), &0.into()), "{told}");
    steer(&server, "dry-run=true&timeout=10s&close-over=20s").assert_status(400);
    // Nothing has happened.
    assert_eq!(drain(&server)["phase"], "serving");
    assert_eq!(get(addr, "/readyz").status, 200);
    assert!(!server.log().contains("draining"), "{}", server.log());
    // While it drains, too.
    steer(&server, "now=true&timeout=30m&close-over=25m").assert_status(202);
    let told = ask("now=true&timeout=10s&close-over=10s");
    assert_eq!((&told["phase"], &told["seconds_left"]), (&"closing".into(), &10.into()), "{told}");
    assert!(drain(&server)["seconds_left"].as_u64().unwrap() > 1_500, "it goes on as before");
    steer(&server, "now=true&timeout=1m&close-over=2s").assert_status(200);
    assert_all_restarted(staying);
    assert_eq!(v1.next_of("drain")["type"], "drain");
    v1.client.assert_closed(1012);
    stream.blocks_until_end();
    server.assert_exit(0);
}

/// A signal's drain can be hastened and prolonged, too; it remains the first signal.
#[test]
fn a_signals_drain_is_steered_as_well() {
    let args = ["--threads", "1", "--drain-timeout", "1m", "--drain-close-over", "10s"];
    let mut server = start(&args);
    let client = Client::connect(server.addr());
    server.signal(&["TERM"]);
    eventually(PATIENCE, "it drains", || drain(&server)["phase"] != "serving");
    steer(&server, "timeout=1h").assert_status(200);
    assert!(drain(&server)["seconds_left"].as_u64().unwrap() > 3_000);
    // The only client is closed as the closing begins, which is at once.
    steer(&server, "timeout=10s").assert_status(200);
    assert_all_restarted(vec![client]);
    server.assert_exit(0);
}

/// No time at all: everybody gets 1001 at once.
#[test]
fn without_any_time_everyone_gets_1001() {
    let mut server = start(&[]);
    let clients = clients(server.addr(), 5);
    steer(&server, "timeout=0").assert_status(202);
    for mut client in clients {
        client.assert_closed(1001);
    }
    server.assert_exit(0);
}
