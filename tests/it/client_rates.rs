//! Limits of one client: it may say so much, whatever it says.

use crate::support::{
    PATIENCE, client::Client, eventually, frames::masked, metrics::metric, publish::Publisher,
    server::Server,
};

/// A burst is ten times as much.
const RATE: &[&str] = &["--commands-per-client", "3"];
const BURST: usize = 30;

/// Sends `frame` so often, and expects to be closed for it.
#[track_caller]
fn assert_limited(mut client: Client, frame: &[u8], count: usize) {
    client.send(frame.repeat(count));
    let (code, text) = client.texts_until_close().1;
    let retry =
        text.strip_prefix("rate limited; retry in ").and_then(|text| text.strip_suffix(" ms"));
    let retry_ms: u64 = retry.expect(&text).parse().unwrap();
    assert!(code == 1008 && (5_000..=30_000).contains(&retry_ms), "{code} {text}");
}

/// Sends `frame` so often, and expects to be heard after it.
#[track_caller]
fn assert_not_limited(server: &Server, client: &mut Client, frame: &[u8], count: usize) {
    client.send(frame.repeat(count));
    client.send(masked(true, 9, b"still here"));
    while client.frame().payload != b"still here" {}
    Publisher::new(server.addr()).publish_to_all("for you too");
    while client.frame().payload != b"for you too" {}
}

/// A client that says too much is closed, whatever it says; up to its burst it is not.
#[test]
fn a_client_that_says_too_much_is_closed() {
    let server = Server::start(RATE);
    let addr = server.addr();
    let frames = [masked(true, 1, b"x"), masked(true, 9, b""), masked(true, 10, b"")];
    for frame in &frames {
        let mut client = Client::connect(addr);
        // The ping that asks for an answer counts too.
        assert_not_limited(&server, &mut client, frame, BURST - 3);
        assert_limited(client, frame, 2 * BURST);
    }
    let limited = metric(addr, "wsbcast_limited_total", &["commands"]);
    assert_eq!(limited, 3.0);
    // The last one's end may have yet to be seen.
    eventually(PATIENCE, "each is counted as closed", || {
        metric(addr, "wsbcast_connections_closed_total", &["rate_limited"]) == 3.0
    });
}

/// Input counts by its length, also in empty parts of a message that does not end.
#[test]
fn long_input_counts_more() {
    let server = Server::start(RATE);
    let addr = server.addr();
    // One for itself, and eight for its length.
    let long = masked(true, 1, &[b'x'; 32 * 1024]);
    let mut client = Client::connect(addr);
    assert_not_limited(&server, &mut client, &long, 2);
    assert_limited(Client::connect(addr), &long, 6);
    let begun = masked(false, 1, b"x");
    let parts = masked(false, 0, b"").repeat(60 * 1024);
    let flood = [begun, parts, masked(true, 9, b"")].concat();
    assert_limited(Client::connect(addr), &flood, 1);
}

/// Commands of the subprotocol count like all messages.
#[test]
fn commands_are_limited_too() {
    let server = Server::start(RATE);
    let headers = "Sec-WebSocket-Protocol: wsbcast.v1\r\n";
    let http = crate::support::http::Http::connect(server.addr());
    let client = Client::try_open(http, server.addr(), "/ws", headers).unwrap();
    assert_limited(client, &masked(true, 1, b"{\"type\":\"ping\"}"), 2 * BURST);
}

/// One client that says too much is no other's matter, and a dry run or an exempt network closes
/// nobody.
#[test]
fn a_limit_of_one_client_is_no_other_ones() {
    let server = Server::start(RATE);
    let mut other = Client::connect(server.addr());
    assert_limited(Client::connect(server.addr()), &masked(true, 9, b""), 2 * BURST);
    assert_not_limited(&server, &mut other, &masked(true, 9, b""), 1);
    for (more, counts) in
        [(&["--limits-dry-run"][..], true), (&["--limit-exempt", "127.0.0.0/8"], false)]
    {
        let server = Server::start(&[RATE, more].concat());
        let mut client = Client::connect(server.addr());
        assert_not_limited(&server, &mut client, &masked(true, 9, b""), 2 * BURST);
        let limited = metric(server.addr(), "wsbcast_limited_total", &["commands"]);
        assert_eq!(limited > 0.0, counts, "{more:?}");
    }
}
