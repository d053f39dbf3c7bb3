//! Local senders are the server's own user and root, whatever a proxy of somebody else says or
//! hides.
//!
//! These tests run programs as several users, and so as root.

use std::{fs, net::SocketAddr, process::Command, time::Duration};

use socket2::SockRef;

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    foreign_proxy::Proxy,
    frames::{PING, PONG, masked},
    http::{Http, get, once, post},
    metrics::metric,
    server::{Launch, Server, as_user},
};

const SERVER_USER: u32 = 47_110;
const OTHER_USER: u32 = 47_120;

const ADMIN: [&str; 2] = ["--admin-listen", "127.0.0.1:0"];

fn publish_as(host: &str) -> String {
    format!(
        "POST /broadcast HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\n\
         Connection: close\r\n\r\nstray"
    )
}

fn drain_as(host: &str) -> String {
    format!(
        "POST /admin/drain HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\
         Connection: close\r\n\r\n"
    )
}

fn published(server: &Server) -> f64 {
    metric(server.addr(), "wsbcast_published_total", &["source=\"http\""])
}

/// The answer to `curl` as `user`.
fn curl(user: u32, arguments: &[&str]) -> u16 {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*"]).args(arguments);
    as_user(&mut command, user);
    let out = command.output().expect("curl is installed");
    String::from_utf8(out.stdout).unwrap().parse().unwrap()
}

/// The proxies of a server, as one sets them up: silent, with their client's `Host`, over TCP.
fn proxies(to: SocketAddr) -> [Proxy; 4] {
    [
        Proxy::nginx(to, ""),
        Proxy::nginx(to, "proxy_http_version 1.1; proxy_set_header Connection \"\";"),
        Proxy::nginx(to, "proxy_set_header Host $http_host;"),
        Proxy::tcp(to),
    ]
}

/// A sender behind a proxy of another user may neither publish nor look nor drain.
#[test]
fn another_users_proxy_gives_no_rights() {
    let server = Server::start(&ADMIN);
    let mut client = Client::connect(server.addr());
    for proxy in proxies(server.addr()) {
        for host in [format!("localhost:{}", server.addr().port()), proxy.addr().to_string()] {
            let refused = once(proxy.addr(), publish_as(&host));
            refused.assert_status(403);
            assert!(refused.text().contains("--api-token"), "the way out: {refused:?}");
            let look =
                |path| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            for path in ["/metrics", "/stats", "/admin/drain", "/"] {
                once(proxy.addr(), look(path)).assert_status(403);
            }
            once(proxy.addr(), drain_as(&host)).assert_status(403);
            assert_eq!(once(proxy.addr(), look("/readyz")).status, 200, "the proxy works");
        }
    }
    for proxy in proxies(server.admin()) {
        once(proxy.addr(), drain_as("localhost")).assert_status(403);
    }
    assert_eq!(get(server.addr(), "/admin/drain").json()["phase"], "serving");
    post(server.addr(), "/broadcast", "sentinel").assert_status(202);
    client.assert_text("sentinel");
}

/// How many connections to `addr` there are, as their other ends see it: all, and open ones.
fn connections_to(addr: SocketAddr) -> (usize, usize) {
    const ESTABLISHED: &str = "01";
    let remote = format!("0100007F:{:04X}", addr.port());
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let states: Vec<_> =
        lines.filter(|line| line[2] == remote).map(|line| line[3].to_owned()).collect();
    (states.len(), states.iter().filter(|state| *state == ESTABLISHED).count())
}

/// A sender that hangs up at once has no rights, whatever the kernel says of its socket. The kernel
/// tells a socket that has been closed as one of root's. So that all of them are closed before the
/// server looks, it is stopped meanwhile.
#[test]
fn a_hasty_post_through_a_proxy_has_no_owner() {
    const CLIENTS: usize = 16;
    let server = Server::start(&ADMIN);
    for (to, request) in
        [(server.addr(), publish_as("localhost")), (server.admin(), drain_as("localhost"))]
    {
        for proxy in proxies(to) {
            server.signal(&["STOP"]);
            eventually(PATIENCE, "nobody else is there", || connections_to(to).1 == 0);
            let clients: Vec<_> = (0..CLIENTS)
                .map(|_| {
                    let mut http = Http::connect(proxy.addr());
                    http.send(&request);
                    http
                })
                .collect();
            eventually(PATIENCE, "all are connected", || connections_to(to).1 == CLIENTS);
            for (place, http) in clients.iter().enumerate() {
                if place % 2 == 0 {
                    SockRef::from(&http.stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
            drop(clients);
            eventually(PATIENCE, "all have hung up", || connections_to(to).1 == 0);
            server.signal(&["CONT"]);
            // The server has come to all that was before it.
            once(proxy.addr(), &request).assert_status(403);
        }
    }
    let refused = || metric(server.addr(), "wsbcast_publish_failures_total", &["forbidden"]);
    eventually(PATIENCE, "they were seen", || refused() > CLIENTS as f64);
    assert_eq!(published(&server), 0.0);
    assert_eq!(get(server.addr(), "/admin/drain").json()["phase"], "serving");
}

/// The server's own user and root may publish and administer; other users of the machine may not.
#[test]
fn only_the_own_user_and_root_may() {
    let args = [&ADMIN[..], &["--listen", "127.0.0.1:0", "--listen", "[::1]:0"]].concat();
    let server = Launch::on_a_free_port(&args).user(SERVER_USER).start();
    let said = server.wait_for_log(&["publishing:"]);
    assert!(said.contains(&format!("user {SERVER_USER} and root")), "{said}");
    for (user, allowed) in [(SERVER_USER, true), (0, true), (OTHER_USER, false), (65_534, false)] {
        let expect = |status| if allowed { status } else { 403 };
        for addr in server.public() {
            let url = |path: &str| format!("http://{addr}{path}");
            assert_eq!(curl(user, &["-d", "x", &url("/broadcast")]), expect(202), "{user} {addr}");
            assert_eq!(curl(user, &[&url("/metrics")]), expect(200), "{user} {addr}");
            assert_eq!(curl(user, &["-X", "POST", &url("/admin/drain")]), 403, "{user} {addr}");
        }
    }
    let drain = format!("http://{}/admin/drain", server.admin());
    assert_eq!(curl(OTHER_USER, &["-X", "POST", &drain]), 403);
    assert_eq!(curl(OTHER_USER, &[&drain]), 200, "there everybody may look");
    assert_eq!(curl(SERVER_USER, &["-X", "POST", &drain]), 202);
}

/// The user that stands for all users unknown to a user namespace is no process's own user.
#[test]
fn the_overflow_user_is_nobody_even_to_itself() {
    let server = Launch::on_a_free_port(&[]).user(65_534).start();
    let url = format!("http://{}/broadcast", server.addr());
    server.wait_for_log(&["publishing:", "programs of root"]);
    server.wait_for_log(&["publishing:", "own user (65534, nobody) may not"]);
    assert_eq!(curl(65_534, &["-d", "x", &url]), 403);
    assert_eq!(curl(0, &["-d", "x", &url]), 202);
    let behind = once(Proxy::tcp(server.addr()).addr(), publish_as("localhost"));
    let hint = behind.assert_status(403).json()["hint"].to_string();
    assert!(hint.contains("runs as user 65534") && hint.contains("--api-token"), "{hint}");
}

/// Clients behind a proxy of another user may listen, and their own messages are not broadcast.
#[test]
fn clients_behind_a_foreign_proxy_may_only_listen() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let proxy = Proxy::tcp(server.addr());
    let http = Http::connect(proxy.addr());
    let mut behind = Client::try_open(http, server.addr(), "/ws", "").unwrap();
    behind.send_text("from outside");
    behind.send(masked(true, PING, b""));
    assert_eq!(behind.frame().opcode, PONG, "what was said before has been read");
    let mut local = Client::connect(server.addr());
    local.send_text("from here");
    for client in [&mut behind, &mut local] {
        client.assert_text("from here");
    }
}

#[test]
fn the_log_says_who_may_publish_and_who_may_listen() {
    let cases: [(&[&str], &[&str]); 4] = [
        (&[], &["publishing:", "root on this machine"]),
        (&["--api-token", "secret"], &["publishing:", "--api-token", "from anywhere"]),
        (&["--insecure-api"], &["publishing:", "--insecure-api"]),
        (
            &["--insecure-api", "--listen", "0.0.0.0:0"],
            &["WARN", "publishing:", "any machine", "--insecure-api"],
        ),
    ];
    for (args, words) in cases {
        let server = Server::start(args);
        let line = server.wait_for_log(words);
        assert_eq!(line.contains("WARN"), words.contains(&"WARN"), "{line}");
        let listening = server.wait_for_log(&["listening:", "without a token"]);
        assert!(listening.contains(&server.addr().port().to_string()), "{listening}");
    }
}
