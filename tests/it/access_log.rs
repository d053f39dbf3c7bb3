//! The access log: a line about each request and each ended client, without secrets, whatever the
//! level.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{
    client::Client,
    events::Events,
    http::{Http, get, once, post, post_with},
    server::Server,
    tokens::{KEY, bearer, token_for},
};

const TOKEN: &str = "a-token-of-the-tests";

/// A server that logs access, and of the rest where it listens.
fn server(access: &str) -> Server {
    let level = "warn,wsbcast::server=info";
    let rest = ["--log-level", level, "--log-format", "json", "--api-token", TOKEN];
    Server::start(&[&["--access-log", access], &rest[..]].concat())
}

fn publish(addr: SocketAddr, body: &str) {
    let headers = format!("Authorization: Bearer {TOKEN}\r\n");
    post_with(addr, "/broadcast?channel=a", &headers, body.as_bytes()).assert_status(202);
}

/// The line with these words, as JSON.
fn line(server: &Server, words: &[&str]) -> Value {
    let words = [&["\"target\":\"access\""], words].concat();
    serde_json::from_str(&server.wait_for_log(&words)).unwrap()
}

#[test]
fn each_request_has_a_line_without_its_query() {
    let server = server("on");
    let addr = server.addr();
    publish(addr, "hello");
    let told = line(&server, &["\"status\":202"]);
    assert_eq!((&told["message"], &told["level"]), (&"request".into(), &"INFO".into()), "{told}");
    assert_eq!((&told["address"], &told["method"]), (&"127.0.0.1".into(), &"POST".into()));
    assert_eq!((&told["path"], &told["bytes_in"]), (&"/broadcast".into(), &5.into()));
    assert!(told["bytes_out"].as_u64() > Some(10) && told["seconds"].is_number(), "{told}");
    post(addr, "/broadcast?token=wrong-secret", "x").assert_status(401);
    assert_eq!(line(&server, &["\"status\":401"])["path"], "/broadcast");
    let refused = once(addr, "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(line(&server, &[&format!("\"status\":{}", refused.status)])["path"], "/ws");
    once(addr, "nonsense\r\n\r\n").assert_status(400);
    assert_eq!(line(&server, &["request unreadable"])["address"], "127.0.0.1");
    let log = server.log();
    assert!(!log.contains(TOKEN) && !log.contains("wrong-secret"), "{log}");
    assert!(!log.contains("channel=a"), "{log}");
}

/// A stranger's method and path, which may hold anything, are not written.
#[test]
fn strangers_cannot_break_or_lengthen_a_line() {
    let server = server("on");
    let path = format!("/%22{}", "x\"".repeat(2_000));
    once(server.addr(), format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
        .assert_status(404);
    let told = line(&server, &["\"status\":404"]);
    assert_eq!(told["path"], "(unknown)");
    let method = "M".repeat(5_000);
    let request = format!("{method} /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    once(server.addr(), request).assert_status(405);
    let told = line(&server, &["\"status\":405"]);
    assert_eq!((&told["method"], &told["path"]), (&"(unknown)".into(), &"/livez".into()));
    assert!(told.to_string().len() < 600);
}

#[test]
fn each_client_has_a_line_when_it_ends() {
    let server = server("on");
    let addr = server.addr();
    let mut client = Client::open(addr, &format!("/ws?channel=a&channel=b&token={TOKEN}"));
    publish(addr, &"x".repeat(2_000));
    client.assert_text(&"x".repeat(2_000));
    client.send(crate::support::frames::masked_close(4001, "bye"));
    assert_eq!(client.close_frame().0, 4001);
    let told = line(&server, &["\"code\":4001"]);
    assert_eq!((&told["message"], &told["path"]), (&"client".into(), &"/ws".into()), "{told}");
    assert_eq!((&told["address"], &told["channels"]), (&"127.0.0.1".into(), &2.into()));
    assert_eq!(told["reason"], "client");
    let counted = if cfg!(target_os = "linux") { told["bytes_out"].as_u64() } else { Some(2_001) };
    assert!(counted > Some(2_000) && told["seconds"].is_number(), "{told}");
    drop(Events::open(addr, "/sse?channel=a"));
    let told = line(&server, &["\"path\":\"/sse\""]);
    assert_eq!((&told["message"], &told["code"]), (&"client".into(), &Value::Null), "{told}");
    let log = server.log();
    assert!(!log.contains("client gone") && !log.contains("request broken off"), "{log}");
    assert!(!log.contains(TOKEN), "{log}");
}

/// The lines of a token's bearer name its subject, quoted like all that others have written.
#[test]
fn lines_name_the_subject_of_a_token() {
    let server = Server::start(&["--access-log", "on", "--log-format", "json", KEY]);
    let addr = server.addr();
    let sub = "al\"ice\n";
    let shown = bearer(&token_for(sub, &["a"], &["a"], 3600));
    let opened = Client::try_open(Http::connect(addr), addr, "/ws?channel=a", &shown);
    let mut client = opened.unwrap_or_else(|refused| panic!("{refused:?}"));
    post_with(addr, "/broadcast?channel=a", &shown, b"hello").assert_status(202);
    client.assert_text("hello");
    client.send(crate::support::frames::masked_close(1000, ""));
    assert_eq!(client.close_frame().0, 1000);
    for path in ["/broadcast", "/ws"] {
        let told = line(&server, &[&format!("\"path\":\"{path}\"")]);
        assert_eq!(told["sub"], sub, "{told}");
    }
}

/// A request whose sender hangs up before its answer has a line too.
#[test]
fn a_request_that_is_broken_off_has_a_line() {
    let server = server("on");
    let mut http = Http::connect(server.addr());
    http.send(format!(
        "POST /broadcast HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\
         Content-Length: 10\r\n\r\nhalf"
    ));
    socket2::SockRef::from(&http.stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(http);
    let told = line(&server, &["\"path\":\"/broadcast\""]);
    assert_eq!(told["bytes_in"], 10, "{told}");
    let is_broken_off = told["message"] == "request broken off" && told["status"].is_null();
    // Where the end of the body is seen first, that is an answer.
    assert!(is_broken_off || told["status"] == 400, "{told}");
}

/// Without the option there is no line, at no level.
#[test]
fn without_the_option_there_is_no_access_log() {
    let server = Server::start(&["--log-level", "trace"]);
    get(server.addr(), "/livez").assert_status(200);
    drop(Client::connect(server.addr()).leave());
    server.wait_for_log(&["client gone"]);
    assert!(!server.log().contains(" access:"), "{}", server.log());
}
