//! Pages of other origins: their preflights are answered, and they can read every answer; or they
//! are refused, where `--allowed-origins` does not list them.

use std::net::SocketAddr;

use crate::support::{
    client::Client,
    http::{Http, Response, get, once, post_with},
    metrics::metric,
    server::Server,
};

const ORIGIN: &str = "Origin: https://app.example\r\n";

fn ask(addr: SocketAddr, line: &str, headers: &str) -> Response {
    once(addr, format!("{line} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n{headers}\r\n"))
}

fn preflight(addr: SocketAddr, target: &str, method: &str) -> Response {
    let wanted = format!(
        "{ORIGIN}Access-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: authorization,idempotency-key,last-event-id\r\n"
    );
    ask(addr, &format!("OPTIONS {target}"), &wanted)
}

#[track_caller]
fn assert_allows(answer: &Response, method: &str) {
    assert_allows_for(answer, method, "*");
}

#[track_caller]
fn assert_allows_for(answer: &Response, method: &str, origin: &str) {
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
    let list = |name: &str| -> Vec<String> {
        let value = answer.header(name).unwrap_or_default().to_ascii_lowercase();
        value.split(',').map(|word| word.trim().to_owned()).collect()
    };
    assert!(list("access-control-allow-methods").contains(&method.to_ascii_lowercase()));
    for header in
        ["authorization", "content-type", "idempotency-key", "last-event-id", "cache-control"]
    {
        assert!(list("access-control-allow-headers").contains(&header.to_owned()), "{header}");
    }
    assert!(answer.header("access-control-max-age").is_some());
}

/// Every public route that pages use answers preflights.
#[test]
fn a_preflight_is_answered_on_every_public_route() {
    let server = Server::start(&["--api-token", "secret", "--echo"]);
    for target in
        ["/ws", "/sse?channel=a", "/echo", "/client.js", "/client.d.ts", "/livez", "/readyz"]
    {
        assert_allows(&preflight(server.addr(), target, "GET"), "GET");
    }
    assert_allows(&preflight(server.addr(), "/broadcast?channel=a", "POST"), "POST");
    for target in ["/metrics", "/stats", "/admin/drain"] {
        let refused = preflight(server.addr(), target, "GET");
        refused.assert_status(405);
        assert_eq!(refused.header("access-control-allow-origin"), None, "{target}: for no page");
    }
    preflight(server.addr(), "/nothing", "GET").assert_status(404);
}

/// A preflight for publishing is answered as the right to publish of its sender says.
#[test]
fn a_preflight_for_publishing_depends_on_rights() {
    let server = Server::start(&[]);
    let addr = server.addr();
    for method in ["OPTIONS", "GET"] {
        let refused = ask(addr, &format!("{method} /broadcast"), ORIGIN);
        refused.assert_status(403);
        assert_eq!(refused.header("access-control-allow-methods"), None);
        assert_eq!(refused.header("access-control-allow-origin"), Some("*"), "it can be read");
        let hint = refused.json()["hint"].to_string();
        assert!(hint.contains("token") && hint.contains("same origin"), "{hint}");
    }
    let own = format!("Origin: http://{addr}\r\n");
    assert_allows(&ask(addr, "OPTIONS /broadcast", &own), "POST");
    ask(addr, "GET /broadcast", &own).assert_status(405);
    let open = Server::start(&["--insecure-api"]);
    assert_allows(&preflight(open.addr(), "/broadcast", "POST"), "POST");
}

/// A page of another origin can read every answer, errors too.
#[test]
fn a_page_of_another_origin_can_read_answers() {
    let server = Server::start(&["--api-token", "secret", "--max-connections", "1"]);
    let addr = server.addr();
    let _client = Client::connect(addr);
    for (line, status) in [
        ("GET /sse?token=wrong", 401),
        ("GET /sse?channel=", 400),
        ("GET /sse", 503),
        ("GET /ws", 426),
        ("POST /broadcast", 401),
        ("GET /broadcast", 405),
        ("GET /nothing", 404),
        ("GET /readyz", 200),
        ("GET /client.js", 200),
    ] {
        let answer = ask(addr, line, ORIGIN);
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"), "{line}");
        let shown = answer.header("access-control-expose-headers").unwrap_or_default();
        assert!(shown.contains("Retry-After"), "{line}: {shown}");
    }
    assert_eq!(get(addr, "/metrics").header("access-control-allow-origin"), None);
}

const LISTED: &[&str] =
    &["--allowed-origins", "https://app.example", "--allowed-origins", "http://b.example:8080"];

/// A server for pages of two origins, with a token and every public route.
fn listed() -> Server {
    Server::start(&[LISTED, &["--api-token", "secret", "--echo"]].concat())
}

fn origin(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

fn refusals(addr: SocketAddr) -> (f64, f64) {
    (
        metric(addr, "wsbcast_handshakes_rejected_total", &["bad_origin"]),
        metric(addr, "wsbcast_publish_failures_total", &["bad_origin"]),
    )
}

/// A page of a listed origin sees its own origin in each answer, errors too, and never the star.
#[test]
fn a_listed_origin_reads_every_answer() {
    let server = listed();
    for page in ["https://app.example", "http://b.example:8080"] {
        for (line, status) in [
            ("GET /sse?token=wrong", 401),
            ("GET /sse?channel=", 400),
            ("GET /ws", 426),
            ("GET /echo", 426),
            ("POST /broadcast", 401),
            ("GET /broadcast", 405),
            ("OPTIONS /broadcast", 204),
            ("OPTIONS /ws", 204),
            ("GET /nothing", 404),
            ("GET /readyz", 200),
            ("GET /client.js", 200),
        ] {
            let answer = ask(server.addr(), line, &origin(page));
            assert_eq!(answer.status, status, "{line}");
            assert_eq!(answer.header("access-control-allow-origin"), Some(page), "{line}");
            assert!(varies(&answer), "{line}: {answer:?}");
            assert_eq!(answer.header("access-control-allow-credentials"), None, "no cookies");
            let shown = answer.header("access-control-expose-headers").unwrap_or_default();
            for name in ["Retry-After", "WWW-Authenticate", "Wsbcast-Position"] {
                assert!(shown.contains(name), "{line}: {shown}");
            }
        }
    }
    assert_eq!(refusals(server.addr()), (0.0, 0.0));
}

/// Whether a cache is told that the answer depends on the origin.
fn varies(answer: &Response) -> bool {
    let is_vary =
        |(name, value): &(String, String)| name.eq_ignore_ascii_case("vary") && value == "Origin";
    answer.headers.iter().any(is_vary)
}

/// Pages of a listed origin listen, by WebSocket and event stream, and publish.
#[test]
fn a_listed_origin_is_let_in() {
    let server = listed();
    let addr = server.addr();
    let page = origin("https://app.example");
    for path in ["/ws", "/echo"] {
        assert!(Client::try_open(Http::connect(addr), addr, path, &page).is_ok(), "{path}");
    }
    let mut stream = Http::connect(addr);
    stream.send(format!("GET /sse HTTP/1.1\r\nHost: {addr}\r\n{page}\r\n"));
    let head = stream.try_head().unwrap();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("access-control-allow-origin"), Some("https://app.example"));
    let shown = head.header("access-control-expose-headers").unwrap_or_default();
    assert!(varies(&head) && shown.contains("Wsbcast-Position"), "{head:?}");
    let headers = format!("{page}Authorization: Bearer secret\r\n");
    let answer = post_with(addr, "/broadcast", &headers, b"hi");
    assert_eq!(
        answer.assert_status(202).header("access-control-allow-origin"),
        Some("https://app.example")
    );
    let preflight = preflight(addr, "/broadcast", "POST");
    assert_allows_for(&preflight, "POST", "https://app.example");
}

/// A page of any other origin is refused before anything else, whatever it shows, and counted.
#[test]
fn another_origin_is_refused_and_counted() {
    let server = listed();
    let addr = server.addr();
    for (count, page) in [
        "https://evil.example",
        "http://app.example",
        "https://app.example:8443",
        "https://sub.app.example",
        "https://evil-app.example",
        "https://app.example.evil.example",
        "null",
    ]
    .into_iter()
    .enumerate()
    {
        let headers = format!("{}Authorization: Bearer secret\r\n", origin(page));
        let handshakes = ["GET /ws", "OPTIONS /ws", "GET /sse", "GET /echo"];
        for line in handshakes.into_iter().chain(["POST /broadcast", "OPTIONS /broadcast"]) {
            let answer = ask(addr, line, &headers);
            answer.assert_status(403);
            assert_eq!(answer.json()["error"], "bad_origin", "{page} {line}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{page} {line}");
            assert!(varies(&answer), "{page} {line}");
        }
        // Routes on which nothing happens answer, and let the page read nothing.
        let answer = ask(addr, "GET /readyz", &headers);
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), None, "{page}");
        let count = (count + 1) as f64;
        assert_eq!(refusals(addr), (4.0 * count, 2.0 * count), "{page}");
    }
    let both = origin("https://app.example") + &origin("https://evil.example");
    ask(addr, "GET /sse", &both).assert_status(403);
}

/// A program's request names no origin, and passes; a cache learns that a page's answer differs.
#[test]
fn a_request_without_origin_passes_a_list() {
    let server = listed();
    let addr = server.addr();
    drop(Client::connect(addr));
    let answer = ask(addr, "GET /client.js", "");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert!(varies(&answer), "{answer:?}");
    let head_too_large = once(addr, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(70_000)));
    head_too_large.assert_status(431);
    assert!(varies(&head_too_large), "{head_too_large:?}");
}

/// A list opens nothing: without a token only the server's own page may publish.
#[test]
fn a_listed_page_publishes_only_where_it_may() {
    let server = Server::start(LISTED);
    let addr = server.addr();
    for line in ["POST /broadcast", "OPTIONS /broadcast"] {
        let refused = ask(addr, line, &origin("https://app.example"));
        refused.assert_status(403);
        assert_eq!(refused.json()["error"], "forbidden", "{line}");
        assert_eq!(refused.header("access-control-allow-origin"), Some("https://app.example"));
        let own = ask(addr, line, &origin(&format!("http://{addr}")));
        assert_eq!(own.json()["error"], "bad_origin", "{line}: it is not listed");
    }
}
