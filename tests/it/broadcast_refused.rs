//! `POST /broadcast` that is refused: the publisher learns why, and nobody gets anything.

use crate::support::{
    client::Client,
    http::{Http, post, post_with},
    metrics::metric,
    server::Server,
};

const LIMIT: usize = 64 * 1024;

fn limited_server() -> Server {
    Server::start(&["--max-broadcast-size", "64KiB"])
}

#[test]
fn text_that_is_no_utf8_is_400() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    for body in [&b"\xFF"[..], b"cut \xE4\xB8", b"\xED\xA0\x80"] {
        post_with(server.addr(), "/broadcast", "", body).assert_status(400);
    }
    post(server.addr(), "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
    assert_eq!(metric(server.addr(), "wsbcast_publish_failures_total", &["bad_request"]), 3.0);
}

#[test]
fn a_bad_channel_or_two_are_400() {
    let server = Server::start(&[]);
    for query in ["channel=", "channel=a%20b", "channel=a/b", "channel=a&channel=b"] {
        post(server.addr(), &format!("/broadcast?{query}"), "x").assert_status(400);
    }
}

/// A message exactly as large as the limit is taken; one byte more is refused with 413.
#[test]
fn a_message_past_the_limit_is_413() {
    let server = limited_server();
    let mut client = Client::connect(server.addr());
    let largest = "m".repeat(LIMIT);
    post(server.addr(), "/broadcast", &largest).assert_status(202);
    client.assert_text(&largest);
    post(server.addr(), "/broadcast", &"m".repeat(LIMIT + 1)).assert_status(413);
    post(server.addr(), "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
    assert_eq!(metric(server.addr(), "wsbcast_publish_failures_total", &["too_big"]), 1.0);
}

#[test]
fn a_413_is_sent_before_the_body_is_read() {
    let server = limited_server();
    let addr = server.addr();
    let mut http = Http::connect(addr);
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 999999\r\n\r\n"
    ));
    http.response().assert_status(413);
}

#[test]
fn a_publisher_that_goes_on_sending_sees_its_413() {
    let server = limited_server();
    let addr = server.addr();
    let mut http = Http::connect(addr);
    let size = 3 * 1024 * 1024;
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {size}\r\n\r\n"
    ));
    let piece = vec![b'x'; 64 * 1024];
    for _ in 0..size / piece.len() {
        assert!(http.try_send(&piece), "the rest is read and thrown away");
    }
    http.response().assert_status(413);
}

#[test]
fn a_publisher_of_endless_chunks_sees_its_413() {
    let server = limited_server();
    let addr = server.addr();
    let mut http = Http::connect(addr);
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n"
    ));
    let chunk = [b"8000\r\n".to_vec(), vec![b'x'; 0x8000], b"\r\n".to_vec()].concat();
    for _ in 0..32 {
        assert!(http.try_send(&chunk), "the rest is read and thrown away");
    }
    http.response().assert_status(413);
}

/// A publisher that announces a body beyond the limit is refused before it sends any of it.
#[test]
fn expect_100_continue_for_too_much_gets_413() {
    let server = limited_server();
    let addr = server.addr();
    let mut http = Http::connect(addr);
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nExpect: 100-continue\r\n\
         Content-Length: 999999\r\n\r\n"
    ));
    http.response().assert_status(413);
}

#[test]
fn a_batch_past_the_limit_is_413() {
    let server = limited_server();
    let kind = "Content-Type: application/x-ndjson\r\n";
    let one_large = format!("{{\"data\":\"{}\"}}\n", "x".repeat(LIMIT + 1));
    post_with(server.addr(), "/broadcast", kind, one_large.as_bytes()).assert_status(413);
}

#[test]
fn a_body_that_is_cut_off_is_not_published() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let mut http = Http::connect(addr);
    http.send(format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 10\r\n\r\ncut"));
    http.finish();
    let _ = http.try_response();
    post(addr, "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
}
