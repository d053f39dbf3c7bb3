//! `GET /ws`: which requests are upgraded, and how all others are answered.

use crate::support::{
    client::{Client, KEY, upgrade_request},
    frames,
    http::{Http, Response, get, once},
    metrics::metric,
    publish::Publisher,
    server::Server,
};

/// A handshake with one of its header lines replaced or removed (empty `with`).
fn handshake_with(server: &Server, line: &str, with: &str) -> Response {
    let request = upgrade_request(server.addr(), "/ws", "");
    let changed = request.replace(&format!("{line}\r\n"), with);
    assert_ne!(request, changed, "{line} stands in the request");
    once(server.addr(), changed)
}

#[test]
fn a_request_without_an_upgrade_is_told_to_upgrade() {
    let server = Server::start(&[]);
    let asking = "Upgrade: websocket\r\nConnection: Upgrade";
    for with in ["", "Connection: keep-alive\r\n", "Upgrade: h2c\r\nConnection: HTTP2-Settings\r\n"]
    {
        let response = handshake_with(&server, asking, with);
        response.assert_status(426);
        assert!(response.header_is("upgrade", "websocket"), "{with:?}: {response:?}");
    }
    get(server.addr(), "/ws").assert_status(426);
    let reason = ["reason=\"upgrade_required\""];
    assert_eq!(metric(server.addr(), "wsbcast_handshakes_rejected_total", &reason), 4.0);
}

/// A request whose headers contradict each other about the upgrade is refused with 400.
#[test]
fn a_contradictory_upgrade_is_400() {
    let server = Server::start(&[]);
    for (line, with) in [
        ("Upgrade: websocket", ""),
        ("Connection: Upgrade", ""),
        ("Connection: Upgrade", "Connection: keep-alive\r\n"),
    ] {
        handshake_with(&server, line, with).assert_status(400);
    }
}

#[test]
fn another_version_is_told_which_one_is_spoken() {
    let server = Server::start(&[]);
    for version in ["", "Sec-WebSocket-Version: 8\r\n", "Sec-WebSocket-Version: 0\r\n"] {
        let response = handshake_with(&server, "Sec-WebSocket-Version: 13", version);
        response.assert_status(426);
        assert_eq!(response.header("sec-websocket-version"), Some("13"), "{version:?}");
    }
}

#[test]
fn a_bad_key_is_400() {
    let server = Server::start(&[]);
    let key = format!("Sec-WebSocket-Key: {KEY}");
    for with in [
        String::new(),
        "Sec-WebSocket-Key:\r\n".into(),
        "Sec-WebSocket-Key: short\r\n".into(),
        "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n".into(),
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBpcyBsb25n\r\n".into(),
        format!("{key}\r\n{key}\r\n"),
    ] {
        handshake_with(&server, &key, &with).assert_status(400);
    }
}

#[test]
fn a_bad_channel_is_400() {
    let server = Server::start(&[]);
    let long = "a".repeat(129);
    for name in ["", "a%20b", "a%2Fb", "%C3%A4", "a{b}", long.as_str()] {
        let target = format!("/ws?channel={name}");
        once(server.addr(), upgrade_request(server.addr(), &target, "")).assert_status(400);
        let target = format!("/ws?channel=good&channel={name}");
        once(server.addr(), upgrade_request(server.addr(), &target, "")).assert_status(400);
    }
    Client::open(server.addr(), &format!("/ws?channel={}", "a".repeat(128))).leave();
    Client::open(server.addr(), "/ws?channel=A-Z_a.z:0-9").leave();
    Client::open(server.addr(), "/ws?channel=a%3Ab").leave();
}

#[test]
fn http_1_0_is_no_websocket() {
    let server = Server::start(&[]);
    let request = upgrade_request(server.addr(), "/ws", "").replace("HTTP/1.1", "HTTP/1.0");
    let status = once(server.addr(), request).status;
    assert!(matches!(status, 400 | 426), "{status}");
}

/// Names and values of headers are compared without case, and values as lists.
#[test]
fn header_lists_are_compared_without_case() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let raw = format!(
        "GET /ws HTTP/1.1\r\nhost: {addr}\r\nUPGRADE: WebSocket\r\n\
         CONNECTION: keep-alive, UPGRADE\r\nsec-websocket-key: {KEY}\r\n\
         SEC-WEBSOCKET-VERSION: 13\r\n\r\n"
    );
    let mut http = Http::connect(addr);
    let upgrade = http.request(raw);
    Client::upgraded(http, upgrade).leave();

    let split = upgrade_request(addr, "/ws", "")
        .replace("Connection: Upgrade", "Connection: keep-alive\r\nConnection: Upgrade");
    let mut http = Http::connect(addr);
    let upgrade = http.request(split);
    Client::upgraded(http, upgrade).leave();
}

#[test]
fn nothing_is_negotiated_that_is_not_spoken() {
    let server = Server::start(&[]);
    let headers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                   Sec-WebSocket-Protocol: chat, superchat\r\n";
    let http = Http::connect(server.addr());
    let client = Client::try_open(http, server.addr(), "/ws", headers).unwrap();
    assert_eq!(client.upgrade.header("sec-websocket-extensions"), None);
    assert_eq!(client.upgrade.header("sec-websocket-protocol"), None);
    client.leave();
}

/// The first frames of a client may come in one packet with its request.
#[test]
fn first_frames_may_come_with_the_request() {
    let server = Server::start(&["--echo"]);
    let mut raw = upgrade_request(server.addr(), "/echo", "").into_bytes();
    raw.extend(frames::masked(true, frames::TEXT, b"first"));
    raw.extend(frames::masked(true, frames::PING, b"second"));
    let third = frames::masked(true, frames::TEXT, b"third");
    raw.extend(&third[..4]);
    let mut http = Http::connect(server.addr());
    let upgrade = http.request(raw);
    let mut client = Client::upgraded(http, upgrade);
    client.assert_text("first");
    let pong = client.frame();
    assert_eq!((pong.opcode, pong.text()), (frames::PONG, "second".into()));
    client.send(&third[4..]);
    client.assert_text("third");
    client.leave();
}

#[test]
fn a_request_that_comes_byte_by_byte_is_upgraded() {
    let server = Server::start(&[]);
    let mut http = Http::connect(server.addr());
    for byte in upgrade_request(server.addr(), "/ws", "").bytes() {
        http.send([byte]);
    }
    let upgrade = http.response();
    Client::upgraded(http, upgrade).leave();
}

/// A connection that has served requests can still upgrade.
#[test]
fn a_used_connection_can_still_upgrade() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut http = Http::connect(addr);
    let get = format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    assert_eq!(http.request(&get).status, 200);
    let nothing = format!("GET /nothing HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    assert_eq!(http.request(nothing).status, 404);
    if let Ok(client) = Client::try_open(http, addr, "/ws", "") {
        client.leave();
    } else {
        panic!("the third request of a connection upgrades");
    }
}

/// A refused handshake ends its connection; bytes behind it are not taken for a request and
/// published.
#[test]
fn a_refused_handshake_ends_its_connection() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut listener = Client::connect(addr);
    let publish =
        format!("POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: 8\r\n\r\nsmuggled");
    for refused in [
        format!("GET /ws HTTP/1.1\r\nHost: {addr}\r\n\r\n"),
        upgrade_request(addr, "/nothing", ""),
        upgrade_request(addr, "/ws?channel=%20", ""),
        upgrade_request(addr, "/ws", "").replace("Version: 13", "Version: 8"),
        upgrade_request(addr, "/ws", "").replace("GET", "POST"),
    ] {
        let mut http = Http::connect(addr);
        http.send(refused.clone() + &publish);
        let answer = http.response();
        assert!(answer.status >= 400, "{refused}{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"), "{refused}{answer:?}");
        http.assert_end();
    }
    Publisher::new(addr).publish_to_all("first");
    listener.assert_text("first");
}

#[test]
fn echo_exists_only_when_asked_for() {
    let without = Server::start(&[]);
    once(without.addr(), upgrade_request(without.addr(), "/echo", "")).assert_status(404);
    let with = Server::start(&["--echo"]);
    let mut client = Client::open(with.addr(), "/echo");
    client.send_text("hello");
    client.assert_text("hello");
    client.leave();
}
