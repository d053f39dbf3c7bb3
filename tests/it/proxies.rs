//! The configurations of docs/deploying.md for nginx, HAProxy and Caddy, run by the real programs
//! as they stand there, but for the addresses.
//!
//! The proxies run as another user, and so these tests as root.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    sync::atomic::{AtomicBool, Ordering},
    thread,
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

/// The page's example for `fence`, with these servers instead of those there.
pub(crate) fn example(fence: &str, servers: [SocketAddr; 2]) -> String {
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

/// How HAProxy finds out by itself, within two seconds, which server takes clients.
const CHECKS: &str = "default-server check inter 1s fall 2 rise 1";

pub(crate) fn nginx(servers: [SocketAddr; 2]) -> Proxy {
    leading_somewhere(Proxy::nginx_with(|addr| {
        example("nginx", servers).replace("listen 80;", &format!("listen {addr};"))
    }))
}

/// HAProxy; without its checks if `is_blind`.
pub(crate) fn haproxy(servers: [SocketAddr; 2], is_blind: bool) -> Proxy {
    leading_somewhere(Proxy::start("haproxy", |addr, _| {
        let text = example("haproxy", servers).replace("bind :80", &format!("bind {addr}"));
        assert!(text.contains(CHECKS), "{text}");
        let text = if is_blind { text.replace(CHECKS, "") } else { text };
        // As root it may raise its descriptor limit; here it must do with what there is.
        text.replace("maxconn 20000", "maxconn 200")
    }))
}

/// Caddy, without a certificate: nobody signs one here.
pub(crate) fn caddy(servers: [SocketAddr; 2]) -> Proxy {
    leading_somewhere(Proxy::start("caddy", |addr, _| {
        let here = format!("http://:{} {{\n\tbind {}\n", addr.port(), addr.ip());
        let site = example("caddy", servers);
        assert!(site.contains("push.example.org {\n"), "{site}");
        format!("{{\n\tadmin off\n}}\n{}", site.replace("push.example.org {\n", &here))
    }))
}

pub(crate) fn leading_somewhere(proxy: Proxy) -> Proxy {
    eventually(PATIENCE, "the proxy leads somewhere", || {
        get(proxy.addr(), "/client.js").status == 200
    });
    proxy
}

/// The proxies' configurations in docs/deploying.md pass the public routes and no others.
#[test]
fn the_documented_proxies_pass_the_public_routes() {
    let server = Server::start(&["--api-token", TOKEN]);
    let servers = [server.addr(); 2];
    for proxy in [nginx(servers), haproxy(servers, false), caddy(servers)] {
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

/// A server that drains or is gone costs no handshake behind the documented proxies.
#[test]
fn the_documented_proxies_lose_no_handshake() {
    let draining = Server::start(&[]);
    let _last = Client::connect(draining.addr());
    draining.signal(&["TERM"]);
    eventually(PATIENCE, "it refuses newcomers", || {
        Client::try_connect(draining.addr()).is_err_and(|refusal| refusal.status == 503)
    });
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for other in [draining.addr(), gone] {
        let server = Server::start(&[]);
        let servers = [other, server.addr()];
        for proxy in [nginx(servers), haproxy(servers, true)] {
            let before = metric(server.addr(), "wsbcast_connections_opened_total", &[]);
            for _ in 0..20 {
                Client::connect(proxy.addr()).leave();
            }
            let after = metric(server.addr(), "wsbcast_connections_opened_total", &[]);
            assert_eq!(after - before, 20.0, "all were let in");
        }
    }
}

/// The documented proxies that check their servers send no client to one that is about to refuse.
#[test]
fn checking_proxies_avoid_a_server_about_to_refuse() {
    let leaving = Server::start(&["--drain-pre-delay", "10m", "--drain-timeout", "20m"]);
    leaving.signal(&["TERM"]);
    eventually(PATIENCE, "it is not ready", || get(leaving.addr(), "/readyz").status == 503);
    let other = Server::start(&[]);
    let servers = [leaving.addr(), other.addr()];
    for proxy in [haproxy(servers, false), caddy(servers)] {
        let opened = || metric(leaving.addr(), "wsbcast_connections_opened_total", &[]);
        eventually(PATIENCE, "it has looked", || {
            let before = opened();
            (0..4).for_each(|_| drop(Client::connect(proxy.addr()).leave()));
            opened() == before
        });
    }
}

/// One of two servers, at an address where no other test's connections take the port meanwhile;
/// each client is greeted with its name.
fn server_at(addr: &str, name: &str) -> Server {
    let options = ["--api-token", TOKEN, "--drain-pre-delay", "5s", "--greeting", name];
    Server::start(&[&["--listen", addr], &options[..]].concat())
}

/// Waits until a proxy sends clients to the server of this name.
fn wait_until_it_leads_to(proxy: &Proxy, name: &str) {
    eventually(PATIENCE, "the proxy has noticed", || {
        let mut client = Client::connect(proxy.addr());
        let greeting = client.text();
        drop(client.leave());
        greeting == name
    });
}

/// Clients that come through a proxy one after the other, and leave; how many.
fn come_and_go(proxy: SocketAddr, is_over: &AtomicBool) -> usize {
    let mut count = 0;
    while !is_over.load(Ordering::Relaxed) {
        drop(Client::connect(proxy).leave());
        count += 1;
    }
    count
}

/// Messages that are published through a proxy one after the other; the answers that are not 202.
fn publish(proxy: SocketAddr, is_over: &AtomicBool) -> Vec<u16> {
    let headers = format!("Authorization: Bearer {TOKEN}\r\n");
    let mut others = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        match post_with(proxy, "/broadcast?channel=b", &headers, b"hello").status {
            202 => {}
            other => others.push(other),
        }
    }
    others
}

/// Restarts behind the documented proxies refuse no client and no publisher. As the page says: four
/// restarts, of each server twice, each once the one before is noticed.
#[test]
fn restarts_behind_documented_proxies_refuse_nobody() {
    const RESTARTS: usize = 4;
    let mut servers = [server_at("127.0.0.41:0", "one"), server_at("127.0.0.42:0", "two")];
    let addrs = [servers[0].addr(), servers[1].addr()];
    let proxies = [nginx(addrs), haproxy(addrs, false), caddy(addrs)];
    let is_over = AtomicBool::new(false);
    let (clients, refusals) = thread::scope(|scope| {
        let clients = proxies.each_ref().map(|p| scope.spawn(|| come_and_go(p.addr(), &is_over)));
        let refusals = proxies.each_ref().map(|p| scope.spawn(|| publish(p.addr(), &is_over)));
        for restart in 0..RESTARTS {
            let server = &mut servers[restart % 2];
            server.signal(&["TERM"]);
            server.assert_exit(0);
            let name = format!("restart {restart}");
            *server = server_at(&addrs[restart % 2].to_string(), &name);
            proxies.iter().for_each(|proxy| wait_until_it_leads_to(proxy, &name));
        }
        is_over.store(true, Ordering::Relaxed);
        (clients.map(|one| one.join().unwrap()), refusals.map(|one| one.join().unwrap()))
    });
    assert!(clients.iter().all(|count| *count >= 100), "{clients:?}");
    let [at_nginx, at_haproxy, at_caddy] = refusals;
    assert!(at_haproxy.is_empty() && at_caddy.is_empty(), "{at_haproxy:?} {at_caddy:?}");
    // A request that reached a server in the moment of its end is not sent again by nginx.
    let is_broken_off = at_nginx.iter().all(|status| *status == 502);
    assert!(is_broken_off && at_nginx.len() <= RESTARTS, "{at_nginx:?}");
}
