//! Pages of other origins: their preflights are answered, and they can read every answer.

use std::net::SocketAddr;

use crate::support::{
    http::{Response, get, once},
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
    assert_eq!(answer.status, 204, "{answer:?}");
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
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
    let _client = crate::support::client::Client::connect(addr);
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
