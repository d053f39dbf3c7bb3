//! The configurations of docs/deploying.md for nginx and HAProxy, run by the real programs as they
//! stand there, but for the addresses.
//!
//! The proxies run as another user, and so these tests as root.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
};

use crate::support::{
    PATIENCE,
    client::Client,
    events::Events,
    eventually,
    foreign_proxy::Proxy,
    http::{Http, get, post_with},
    metrics::metric,
    server::Server,
};

const TOKEN: &str = "a-token-of-the-tests";

/// What the page has for `fence`, with these servers instead of those there.
fn example(fence: &str, servers: [SocketAddr; 2]) -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/deploying.md"));
    let page = page.unwrap();
    let (_, rest) = page.split_once(&format!("```{fence}\n")).expect("the page has it");
    let (text, _) = rest.split_once("```").unwrap();
    let mut text = text.to_owned();
    for (there, here) in ["10.0.0.1:8000", "10.0.0.2:8000"].into_iter().zip(servers) {
        assert!(text.contains(there), "{text}");
        text = text.replace(there, &here.to_string());
    }
    text
}

/// How HAProxy finds out by itself, within two seconds, who takes clients.
const CHECKS: &str = "default-server check inter 1s fall 2 rise 1";

/// Both, as soon as they let clients in; HAProxy without its checks if `is_blind`.
fn proxies(servers: [SocketAddr; 2], is_blind: bool) -> [Proxy; 2] {
    let proxies = [
        Proxy::nginx_with(|addr| {
            example("nginx", servers).replace("listen 80;", &format!("listen {addr};"))
        }),
        Proxy::start("haproxy", |addr, _| {
            let text = example("haproxy", servers).replace("bind :80", &format!("bind {addr}"));
            assert!(text.contains(CHECKS), "{text}");
            let text = if is_blind { text.replace(CHECKS, "") } else { text };
            // As root it may raise its descriptor limit; here it must do with what there is.
            text.replace("maxconn 20000", "maxconn 200")
        }),
    ];
    for proxy in &proxies {
        eventually(PATIENCE, "the proxy leads somewhere", || {
            get(proxy.addr(), "/client.js").status == 200
        });
    }
    proxies
}

#[test]
fn the_proxies_of_the_page_pass_the_public_routes_and_no_others() {
    let server = Server::start(&["--api-token", TOKEN]);
    for proxy in proxies([server.addr(); 2], false) {
        let mut client = Client::open(proxy.addr(), "/ws?channel=a");
        // As HTTP/1.0, whose bodies have no chunks.
        let mut stream = Http::connect(proxy.addr());
        stream.send("GET /sse?channel=a HTTP/1.0\r\nHost: localhost\r\n\r\n");
        let mut stream = Events::begun(stream);
        assert_eq!(get(proxy.addr(), "/client.d.ts").status, 200);
        let headers = format!("Authorization: Bearer {TOKEN}\r\n");
        // A batch may be longer than what nginx takes by default.
        let long = "x".repeat(1024);
        let line = format!("{{\"channel\":\"b\",\"data\":\"{long}\"}}\n");
        let batch = format!("{headers}Content-Type: application/x-ndjson\r\n");
        let body = line.repeat(2000);
        post_with(proxy.addr(), "/broadcast", &batch, body.as_bytes()).assert_status(202);
        post_with(proxy.addr(), "/broadcast?channel=a", &headers, b"hello").assert_status(202);
        client.assert_text("hello");
        assert_eq!(stream.text(), "hello");
        for path in ["/", "/metrics", "/stats", "/readyz", "/admin/drain"] {
            assert_eq!(get(proxy.addr(), path).status, 404, "{path}");
        }
    }
}

#[test]
fn a_server_that_drains_or_is_gone_costs_no_handshake_behind_the_proxies_of_the_page() {
    let draining = Server::start(&[]);
    let _last = Client::connect(draining.addr());
    draining.signal(&["TERM"]);
    eventually(PATIENCE, "it refuses newcomers", || {
        Client::try_connect(draining.addr()).is_err_and(|refusal| refusal.status == 503)
    });
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for other in [draining.addr(), gone] {
        let server = Server::start(&[]);
        for proxy in proxies([other, server.addr()], true) {
            let before = metric(server.addr(), "wsbcast_connections_opened_total", &[]);
            for _ in 0..20 {
                Client::connect(proxy.addr()).leave();
            }
            let after = metric(server.addr(), "wsbcast_connections_opened_total", &[]);
            assert_eq!(after - before, 20.0, "all were let in");
        }
    }
}

#[test]
fn the_haproxy_of_the_page_sends_nobody_to_a_server_that_is_about_to_refuse() {
    let leaving = Server::start(&["--drain-pre-delay", "10m", "--drain-timeout", "20m"]);
    leaving.signal(&["TERM"]);
    eventually(PATIENCE, "it is not ready", || get(leaving.addr(), "/readyz").status == 503);
    let other = Server::start(&[]);
    let [_, proxy] = proxies([leaving.addr(), other.addr()], false);
    let opened = || metric(leaving.addr(), "wsbcast_connections_opened_total", &[]);
    eventually(PATIENCE, "HAProxy has looked", || {
        let before = opened();
        (0..4).for_each(|_| drop(Client::connect(proxy.addr()).leave()));
        opened() == before
    });
}
