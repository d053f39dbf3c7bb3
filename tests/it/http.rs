//! HTTP/1.1 around the WebSocket: unknown routes, wrong methods, keep-alive, pipelining, limits.

use std::time::Duration;

use crate::support::{
    client::Client,
    http::{Arrival, Http, get, once, post},
    now,
    server::Server,
};

#[test]
fn an_unknown_route_is_404_with_a_json_error() {
    let server = Server::start(&[]);
    for target in ["/nothing", "/ws/", "/WS", "/broadcast/x", "/%2e%2e/ws", "/admin/nothing"] {
        let response = get(server.addr(), target);
        response.assert_status(404);
        let kind = response.header("content-type").unwrap_or_default();
        assert!(kind.starts_with("application/json"), "{target}: {kind}");
        assert_eq!(response.json()["error"], "not_found");
    }
    let hint = |addr| get(addr, "/nothing").json()["hint"].to_string();
    let public = hint(server.addr());
    for route in ["/ws", "/sse", "POST /broadcast", "/client.js", "/livez", "/readyz"] {
        assert!(public.contains(route), "{route}: {public}");
    }
    assert!(!public.contains("/echo"), "it is not there: {public}");
    let server = Server::start(&["--echo", "--admin-listen", "127.0.0.1:0"]);
    assert!(hint(server.addr()).contains("/echo"));
    let admin = hint(server.admin());
    assert!(admin.contains("GET /") && !admin.contains("/ws"), "{admin}");
}

#[test]
fn an_answer_in_json_is_a_line_that_ends() {
    let server = Server::start(&[]);
    for target in ["/livez", "/readyz", "/stats", "/", "/admin/drain", "/nothing", "/ws"] {
        let response = get(server.addr(), target);
        assert_eq!(response.body.last(), Some(&b'\n'), "{target}: {response:?}");
        assert!(response.json().is_object(), "{target}");
    }
    let published = post(server.addr(), "/broadcast", "x");
    assert_eq!(published.body.last(), Some(&b'\n'), "{published:?}");
}

#[test]
fn a_wrong_method_is_405_and_says_which_is_right() {
    let server = Server::start(&["--echo"]);
    for (target, allowed) in [
        ("/ws", "GET"),
        ("/echo", "GET"),
        ("/livez", "GET"),
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/stats", "GET"),
    ] {
        let response = post(server.addr(), target, "");
        response.assert_status(405);
        let allow = response.header("allow").unwrap_or_default().to_owned();
        assert!(allow.split(", ").any(|method| method == allowed), "{target}: Allow: {allow}");
        assert!(!allow.contains("POST"), "{target}: Allow: {allow}");
    }
    let response = get(server.addr(), "/broadcast");
    response.assert_status(405);
    assert_eq!(response.header("allow"), Some("POST"));

    let addr = server.addr();
    let raw = format!("DELETE /admin/drain HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let response = once(addr, raw);
    response.assert_status(405);
    let allow = response.header("allow").unwrap_or_default();
    assert!(allow.contains("GET") && allow.contains("POST"), "Allow: {allow}");
}

/// One connection serves many requests, one after the other.
#[test]
fn one_connection_serves_many_requests() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut http = Http::connect(addr);
    for round in 0..50 {
        let livez = http.request(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
        assert_eq!(livez.status, 200, "round {round}");
        let body = format!("message {round}");
        let published = http.request(format!(
            "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        published.assert_status(202);
        let unknown = http.request(format!("GET /nothing HTTP/1.1\r\nHost: {addr}\r\n\r\n"));
        unknown.assert_status(404);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let publish = |body: &str| {
        let length = body.len();
        format!(
            "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let mut raw = String::new();
    for number in 0..20 {
        raw += &publish(&format!("message {number}"));
        raw += &format!("GET /nothing HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    }
    raw += &format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
    let mut http = Http::connect(addr);
    http.send(raw);
    for number in 0..20 {
        let published = http.response();
        assert_eq!(published.assert_status(202).json()["offset"], number + 1);
        http.response().assert_status(404);
    }
    assert_eq!(http.response().status, 200);
    http.assert_end();
}

#[test]
fn a_chunked_body_is_one_message() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut client = Client::connect(addr);
    let mut http = Http::connect(addr);
    let response = http.request(format!(
        "POST /broadcast HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nhell\r\n7\r\no, you!\r\n0\r\n\r\n"
    ));
    response.assert_status(202);
    client.assert_text("hello, you!");
}

#[test]
fn anything_but_http_is_answered_400_and_closed() {
    let server = Server::start(&[]);
    for raw in ["\x16\x03\x01\x02\x00\x01\x00\x01", "NONSENSE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut http = Http::connect(server.addr());
        http.send(raw);
        let response = http.response();
        assert_eq!(response.assert_status(400).json()["error"], "bad_request", "{raw:?}");
        while http.arrival(Duration::from_secs(30)) == Arrival::Bytes {}
    }
    assert_eq!(get(server.addr(), "/livez").status, 200);
}

#[test]
fn too_many_or_too_long_headers_are_431() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let start = format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    let many: String = (0..200).map(|n| format!("X-Header-{n}: 1\r\n")).collect();
    let long = format!("X-Long: {}\r\n", "a".repeat(64 * 1024));
    for headers in [many, long] {
        let mut http = Http::connect(addr);
        http.try_send(format!("{start}{headers}\r\n"));
        assert_eq!(http.response().status, 431);
    }
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let mut begun = Http::connect(addr);
    begun.send(format!("GET /livez HTTP/1.1\r\nHost: {addr}\r\nX-Slow: "));
    let mut silent = Http::connect(addr);
    let start = now();
    for http in [&mut begun, &mut silent] {
        loop {
            match http.arrival(Duration::from_secs(30)) {
                Arrival::Bytes => {}
                Arrival::Eof | Arrival::Reset => break,
                Arrival::Nothing => panic!("open after {:?}", start.elapsed()),
            }
        }
    }
    assert!(start.elapsed() > Duration::from_secs(5), "slow clients get a fair chance");
}

#[test]
fn a_request_without_host_is_refused() {
    let server = Server::start(&[]);
    let raw = "POST /broadcast HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
    let status = once(server.addr(), raw).status;
    assert!(matches!(status, 400 | 403), "{status}");
}
