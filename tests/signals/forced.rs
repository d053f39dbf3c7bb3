//! Second and third signal, and signals that come as one.

use std::time::Duration;

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    frames::masked_close,
    http::{Http, get, post},
    let_pass, now,
    publish::Publisher,
    server::Server,
};

/// Longer than signals count as one.
const APART: Duration = Duration::from_millis(450);

fn signal_and_wait_until_draining(server: &Server) {
    server.signal(&["TERM"]);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    let_pass(APART);
}

/// A client to which nothing more can be written: its kernel is full, and it does not read.
fn stalled_client(server: &Server) -> Client {
    let client = Client::with_little_room(server.addr(), "/ws");
    let mut publisher = Publisher::new(server.addr());
    // More than any kernel buffer holds, less than the backlog that closes it.
    for _ in 0..6 {
        publisher.publish_to_all("x".repeat(1000 * 1000));
    }
    client
}

/// A second signal closes everyone 1001 and ends within a second.
#[test]
fn a_second_signal_ends_within_a_second() {
    for names in [["TERM"], ["INT"]] {
        let mut server = Server::start(&["--threads", "3"]);
        let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(server.addr())).collect();
        signal_and_wait_until_draining(&server);
        let start = now();
        server.signal(&names);
        for client in &mut clients {
            let (code, reason) = client.close_frame();
            assert_eq!(code, 1001, "{reason}");
            client.http.try_send(masked_close(1001, ""));
        }
        server.assert_exit(0);
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}

/// The moment that the last requests get used to be granted also here, on top of the second.
#[test]
fn a_second_signal_does_not_wait_for_a_request() {
    let mut server = Server::start(&["--drain-pre-delay", "1m"]);
    let addr = server.addr();
    let mut endless = Http::connect(addr);
    endless.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\
         Expect: 100-continue\r\n\r\n"
    ));
    assert_eq!(endless.response().status, 100);
    signal_and_wait_until_draining(&server);
    server.signal(&["TERM"]);
    let start = now();
    server.assert_exit(0);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// Clients that do not answer their close are not waited for.
#[test]
fn clients_that_do_not_answer_a_close_are_not_awaited() {
    let mut server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(server.addr())).collect();
    signal_and_wait_until_draining(&server);
    let start = now();
    server.signal(&["TERM"]);
    server.assert_exit(0);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    for client in &mut clients {
        assert_eq!(client.close_frame().0, 1001, "it was in the kernel before the end");
    }
}

/// A client that could not be told is cut off, and the exit code says so.
#[test]
fn a_client_that_could_not_be_told_sets_the_exit_code() {
    let mut server = Server::start(&[]);
    let _stalled = stalled_client(&server);
    signal_and_wait_until_draining(&server);
    let start = now();
    server.signal(&["TERM"]);
    server.assert_exit(3);
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[test]
fn a_third_signal_ends_it_at_once_with_code_3() {
    let mut server = Server::start(&[]);
    let _stalled = stalled_client(&server);
    signal_and_wait_until_draining(&server);
    server.signal(&["TERM"]);
    let second = now();
    let_pass(Duration::from_millis(320));
    if server.is_running() {
        server.signal(&["TERM"]);
    }
    server.assert_exit(3);
    assert!(second.elapsed() < Duration::from_secs(4), "{:?}", second.elapsed());
}

#[test]
fn signals_close_together_count_as_one() {
    let mut server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    server.signal(&["TERM", "INT", "TERM", "INT", "TERM"]);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    let_pass(APART);
    assert_eq!(get(server.addr(), "/admin/drain").json()["phase"], "waiting");
    assert_eq!(Publisher::new(server.addr()).publish("still here").status, 202);
    client.assert_text("still here");
    client.leave();
    server.assert_exit(0);
}

/// Repeats of the second signal do not count as the third.
#[test]
fn a_repeated_second_signal_is_no_third() {
    let mut server = Server::start(&[]);
    let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(server.addr())).collect();
    signal_and_wait_until_draining(&server);
    server.signal(&["INT", "INT", "TERM", "INT"]);
    for client in &mut clients {
        assert_eq!(client.close_frame().0, 1001);
        client.http.try_send(masked_close(1001, ""));
    }
    server.assert_exit(0);
}

/// A second signal does not wait for a request that never ends.
#[test]
fn a_second_signal_waits_for_no_request() {
    let mut server = Server::start(&["--drain-pre-delay", "30s"]);
    let addr = server.addr();
    let mut endless = Http::connect(addr);
    endless
        .send(format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 4\r\n\r\nha"));
    signal_and_wait_until_draining(&server);
    let start = now();
    server.signal(&["TERM"]);
    server.assert_exit(0);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

/// A drain begun over HTTP is no signal and the first one ends nothing.
/// Kubernetes' preStop asks over HTTP, then the kubelet sends SIGTERM: two ways of one wish.
#[test]
fn a_drain_over_http_is_no_signal() {
    let mut server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let mut client = Client::connect(server.addr());
    post(server.admin(), "/admin/drain", "").assert_status(202);
    eventually(PATIENCE, "readiness is red", || get(server.addr(), "/readyz").status == 503);
    server.signal(&["TERM"]);
    server.wait_for_log(&["first signal", "POST /admin/drain"]);
    let_pass(APART);
    Publisher::new(server.addr()).publish_to_all("still served");
    client.assert_text("still served");
    server.signal(&["TERM"]);
    assert_eq!(client.close_frame().0, 1001);
    client.http.try_send(masked_close(1001, ""));
    server.assert_exit(0);
}
