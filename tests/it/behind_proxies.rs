//! The client's address behind real proxies, as the access log tells it; forged headers; and the
//! rule about local senders behind all of them.
//!
//! The proxies run as another user, and so these tests as root. Clients come from an address of
//! their own, so that they can be told from the proxies.

mod fronts;
mod rules;

use std::{net::SocketAddr, process::Command};

use crate::{
    proxies::{caddy, example, haproxy, nginx},
    support::{
        PATIENCE,
        client::{Client, upgrade_request},
        eventually,
        foreign_proxy::Proxy,
        http::{Http, get, post},
        server::{Launch, Server},
    },
};

/// The client's own address.
const CLIENT: [u8; 4] = [127, 0, 0, 77];
/// The address of a balancer that sends PROXY headers.
const BALANCER: &str = "127.0.0.5";
/// Headers of a client that claims to be another.
const FORGED: &str = "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n";

const LOG: [&str; 4] =
    ["--access-log", "on", "--log-level", "warn,wsbcast::server=info,wsbcast::shard=info"];

fn server(args: &[&str]) -> Server {
    Server::start(&[&LOG, args].concat())
}

/// A request from the client's address, with forged headers; its status.
fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> u16 {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{FORGED}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    Http::connect_from(CLIENT, addr).request(request).status
}

/// A client comes from its address, with forged headers, and leaves.
fn come_and_go(addr: SocketAddr) {
    let mut http = Http::connect_from(CLIENT, addr);
    let answer = http.request(upgrade_request(addr, "/ws?channel=a", FORGED));
    assert_eq!(answer.status, 101);
}

/// Waits until the log names `address` for a request of this path and for a client.
fn assert_named(server: &Server, address: &str, path: &str) {
    let address = format!("address={address} ");
    server.wait_for_log(&[" access: request ", &address, &format!("path=\"{path}\"")]);
    server.wait_for_log(&[" access: client ", &address, "path=\"/ws\""]);
    assert!(!server.log().contains("address=6.6.6.6"), "{}", server.log());
}

/// Behind the documented proxies, once they are trusted, the client has its own address, and what
/// it claims is not believed.
#[test]
fn trusted_documented_proxies_name_the_client() {
    for start in [nginx, |servers| haproxy(servers, false), caddy] {
        let server = server(&["--trusted-proxies", "127.0.0.1"]);
        let proxy = start([server.addr(); 2]);
        assert_eq!(ask(proxy.addr(), "GET", "/client.d.ts", ""), 200);
        come_and_go(proxy.addr());
        assert_named(&server, "127.0.0.77", "/client.d.ts");
        // Nothing from the proxy's address is local.
        assert_eq!(ask(proxy.addr(), "POST", "/broadcast", "x"), 403);
        post(server.addr(), "/broadcast", "x").assert_status(403);
        get(server.addr(), "/metrics").assert_status(403);
    }
}

/// Nobody is believed whom the option does not name.
#[test]
fn untrusted_proxies_name_nobody() {
    for args in [&[][..], &["--trusted-proxies", "127.0.0.2"]] {
        for start in [nginx, |servers| haproxy(servers, false), caddy] {
            let server = server(args);
            let proxy = start([server.addr(); 2]);
            assert_eq!(ask(proxy.addr(), "GET", "/client.d.ts", ""), 200);
            come_and_go(proxy.addr());
            assert_named(&server, "127.0.0.1", "/client.d.ts");
            assert_eq!(ask(proxy.addr(), "POST", "/broadcast", "x"), 403);
            post(server.addr(), "/broadcast", "x").assert_status(202);
        }
    }
    let server = server(&["--trusted-proxies", "127.0.0.1"]);
    assert_eq!(ask(server.addr(), "GET", "/client.d.ts", ""), 200);
    come_and_go(server.addr());
    assert_named(&server, "127.0.0.77", "/client.d.ts");
}

/// An operator who trusts everybody is warned, and so is one who exempts everybody from limits.
#[test]
fn a_network_that_is_not_ones_own_is_warned_of() {
    for (option, why) in [("--trusted-proxies", "may claim"), ("--limit-exempt", "no limit holds")]
    {
        let networks = ["10.0.0.0/8", "0.0.0.0/0", "127.0.0.1", "::/0"];
        let server = server(&networks.map(|network| [option, network]).concat());
        server.wait_for_log(&["WARN", why, "::/0"]);
        let log = server.log();
        let warned = |line: &&str| line.contains("WARN") && line.contains(why);
        let warned: Vec<_> = log.lines().filter(warned).collect();
        let told = ["0.0.0.0/0", "::/0"].map(|network| format!("{option} {network}: "));
        let is_told = |(line, told): (&&str, &String)| line.contains(told);
        assert!(warned.len() == 2 && warned.iter().zip(&told).all(is_told), "{log}");
    }
}

/// A server that expects PROXY headers of the balancer.
fn announced(args: &[&str]) -> Server {
    server(&[&["--proxy-protocol", "on", "--trusted-proxies", BALANCER], args].concat())
}

/// The documented HAProxy that passes bytes, and has these words about its checks.
fn haproxy_tcp(server: SocketAddr, checks: &str) -> Proxy {
    Proxy::start("haproxy", |addr, _| {
        let text = example("haproxy-tcp", [server; 2]);
        let text = text.replace("bind :80", &format!("bind {addr}"));
        let words = format!("default-server source {BALANCER} {checks} ");
        text.replace("default-server ", &words).replace("maxconn 20000", "maxconn 200")
    })
}

/// The same in front of a plain listener.
fn balancer(server: SocketAddr) -> Proxy {
    let proxy = haproxy_tcp(server, "");
    wait_until_it_leads(|| Http::try_connect(proxy.addr()));
    proxy
}

fn wait_until_it_leads(connect: impl Fn() -> Option<Http>) {
    eventually(PATIENCE, "the balancer leads somewhere", || {
        connect().is_some_and(|mut http| {
            http.send("GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            http.try_response().is_some_and(|answer| answer.status == 200)
        })
    });
}

/// A PROXY header names the client; behind it only a trusted proxy's own headers count.
#[test]
fn a_balancers_header_names_the_client() {
    let server = announced(&[]);
    let proxy = balancer(server.addr());
    assert_eq!(ask(proxy.addr(), "GET", "/client.d.ts", ""), 200);
    come_and_go(proxy.addr());
    assert_named(&server, "127.0.0.77", "/client.d.ts");
    assert_eq!(ask(proxy.addr(), "POST", "/broadcast", "x"), 403);
    // Its own checks are LOCAL ones.
    server.wait_for_log(&[" access: request ", &format!("address={BALANCER} "), "/readyz"]);
}

/// nginx behind a balancer: the balancer names nginx, which is trusted, and this names the client.
#[test]
fn a_trusted_proxy_behind_a_balancer_names_the_client() {
    let server = announced(&["--trusted-proxies", "127.0.0.6"]);
    let balancer = balancer(server.addr());
    let front = Proxy::nginx(
        balancer.addr(),
        "proxy_bind 127.0.0.6; proxy_set_header Host $host; proxy_set_header Forwarded \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;",
    );
    assert_eq!(ask(front.addr(), "GET", "/client.d.ts", ""), 200);
    server.wait_for_log(&[" access: request ", "address=127.0.0.77 ", "/client.d.ts"]);
    assert!(!server.log().contains("address=6.6.6.6"), "{}", server.log());
}

/// Version 1 is read too, however it is cut, and no byte behind a header is lost.
#[test]
fn a_header_in_pieces_loses_no_byte() {
    let server = announced(&[]);
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let header = "PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n";
    let from = BALANCER.parse::<std::net::Ipv4Addr>().unwrap().octets();
    for cut in [1, 6, 20, header.len() - 1, header.len(), header.len() + 3] {
        let whole = format!("{header}{request}");
        let mut http = Http::connect_from(from, server.addr());
        http.send(&whole[..cut]);
        // The first part is there alone: the server has answered somebody else since.
        get(server.addr(), "/livez").assert_status(200);
        http.send(&whole[cut..]);
        http.response().assert_status(200);
    }
    server.wait_for_log(&[" access: request ", "address=192.0.2.7 "]);
}

/// A client whose address the balancer does not know has not the balancer's, nor a claimed one.
#[test]
fn a_client_that_a_header_does_not_tell_is_unnamed() {
    let server = announced(&["--limit-exempt", BALANCER, "--max-connections-per-address", "1"]);
    let from = BALANCER.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let connect = |header: &str| {
        let mut http = Http::connect_from(from, server.addr());
        http.send(header);
        Client::try_open(http, server.addr(), "/ws", FORGED)
    };
    let _unnamed = connect("PROXY UNKNOWN\r\n").unwrap();
    connect("PROXY UNKNOWN\r\n").unwrap_err().assert_status(429);
    let local = "\r\n\r\n\0\r\nQUIT\n\u{20}\0\0\0";
    let own = ["X-Forwarded-For: 6.6.6.6\r\n", ""].map(|_| {
        let mut http = Http::connect_from(from, server.addr());
        http.send(local);
        Client::try_open(http, server.addr(), "/ws", "").unwrap()
    });
    drop(own);
    server.wait_for_log(&[" access: request ", "address=unnamed ", "status=429"]);
}

/// Without its header a trusted proxy is closed; from anybody else a header is no request.
#[test]
fn headers_are_required_of_trusted_proxies_alone() {
    let server = announced(&[]);
    let from = BALANCER.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n";
    let damaged =
        ["", "PROXY TCP4 192.0.2.7\r\n", "PROXY nonsense\r\n", "\r\n\r\n\0\r\nQUIT\n\u{11}AAA"];
    for header in damaged {
        let mut http = Http::connect_from(from, server.addr());
        http.send(format!("{header}{request}"));
        assert!(http.try_response().is_none(), "{header:?}");
    }
    server.wait_for_log(&["WARN", "a trusted proxy is refused", BALANCER, "PROXY header"]);
    let good = "PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n";
    for header in [good, "\r\n\r\n\0\r\nQUIT\n\u{20}\0\0\0"] {
        let mut http = Http::connect(server.addr());
        http.send(format!("{header}{request}"));
        http.response().assert_status(400);
    }
    get(server.addr(), "/livez").assert_status(200);
}

/// `wsbcast health` beside such a server announces itself where that is expected.
#[test]
fn health_is_asked_as_the_server_expects() {
    let admin = ["--admin-listen", "127.0.0.1:0"];
    let server = announced(&[&admin[..], &["--trusted-proxies", "127.0.0.9"]].concat());
    let health = |args: &[&str]| {
        let binary = env!("CARGO_BIN_EXE_wsbcast");
        let status = Command::new(binary).arg("health").args(args).output().unwrap().status;
        status.code()
    };
    let (public, admin) = (server.addr().to_string(), server.admin().to_string());
    let on = ["--proxy-protocol", "on"];
    // Seen from 127.0.0.1, which is not trusted there.
    let not_trusted = [&on[..], &["--trusted-proxies", BALANCER, "--listen", &public]].concat();
    assert_eq!(health(&not_trusted), Some(0));
    let trusted = [&on[..], &["--trusted-proxies", "127.0.0.1"]].concat();
    assert_eq!(health(&[&trusted[..], &["--listen", &public]].concat()), Some(1), "a header");
    assert_eq!(health(&[&trusted[..], &["--admin-listen", &admin]].concat()), Some(0));
    // A server that trusts 127.0.0.1 answers nothing without a header.
    let launch = Launch::on_a_free_port(&[&LOG[..], &trusted[..]].concat());
    let strict = launch.spawn();
    let said = strict.wait_for_log(&["listening on"]);
    let addr = said.split("listening on ").nth(1).unwrap().split_whitespace().next().unwrap();
    eventually(PATIENCE, "it answers LOCAL headers", || {
        health(&[&trusted[..], &["--listen", addr]].concat()) == Some(0)
    });
    assert_eq!(health(&["--listen", addr]), Some(1));
    let client = Http::connect_from([127, 0, 0, 8], addr.parse().unwrap());
    drop(Client::try_open(client, addr.parse().unwrap(), "/ws", "").unwrap());
}
