//! A Unix socket as a public listener: for local programs, and for a proxy as another user.
//!
//! The proxy runs as another user, and so these tests as root.

use std::{
    net::{SocketAddr, TcpStream},
    os::{
        fd::OwnedFd,
        unix::{
            fs::{PermissionsExt as _, chown},
            net::UnixStream,
        },
    },
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::support::{
    PATIENCE,
    client::Client,
    eventually,
    foreign_proxy::{PROXY_USER, Proxy},
    frames::Inbox,
    http::{Http, get, once, post},
    server::{Launch, Server},
};

const LOG: [&str; 4] = ["--access-log", "on", "--log-level", "warn,wsbcast::server=info"];

/// A folder that every user may enter, and the path of a socket in it.
fn place() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).unwrap();
    let path = folder.path().join("socket");
    (folder, path)
}

/// A server that listens there, and on a free port.
fn server(path: &Path, args: &[&str]) -> Server {
    let socket = format!("unix:{}", path.display());
    Server::start(&[&["--listen", &socket, "--listen", "127.0.0.1:0"], &LOG, args].concat())
}

/// The answer to `curl` over the socket.
fn curl(path: &Path, args: &[&str]) -> u16 {
    let mut command = Command::new("curl");
    command.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket"]).arg(path);
    let out = command.args(args).output().expect("curl is installed");
    String::from_utf8(out.stdout).unwrap().parse().unwrap()
}

/// A connection over the socket; by type like all others.
fn connect(path: &Path) -> Http {
    let stream = TcpStream::from(OwnedFd::from(UnixStream::connect(path).unwrap()));
    Http { stream, inbox: Inbox::default() }
}

/// Local programs publish and listen over the socket as over a port of loopback.
#[test]
fn local_programs_publish_and_listen_over_a_socket() {
    let (_folder, path) = place();
    let server = server(&path, &[]);
    let addr = server.addr();
    server.wait_for_log(&["listening on unix:", "socket"]);
    let mut client = Client::try_open(connect(&path), addr, "/ws?channel=a", "").unwrap();
    assert_eq!(curl(&path, &["-d", "hello", "http://localhost/broadcast?channel=a"]), 202);
    client.assert_text("hello");
    assert_eq!(curl(&path, &["http://localhost/metrics"]), 200);
    // A web page, or a proxy that says so, is not local here either.
    let page = ["-H", "Origin: http://elsewhere.example"];
    let publish = ["-d", "x", "http://localhost/broadcast"];
    assert_eq!(curl(&path, &[&page[..], &publish].concat()), 403);
    assert_eq!(curl(&path, &[&["-H", "X-Forwarded-For: 1.2.3.4"], &publish[..]].concat()), 403);
    drop(client);
    server.wait_for_log(&[" access: client address=unix ", "code=1006"]);
    assert!(!server.log().contains("address=1.2.3.4"), "{}", server.log());
}

/// A client that stops reading for a while gets all that fits its backlog, as over TCP.
#[test]
fn a_slow_client_of_a_socket_gets_everything() {
    let (_folder, path) = place();
    let server = server(&path, &["--threads", "1"]);
    let mut client = Client::try_open(connect(&path), server.addr(), "/ws", "").unwrap();
    let messages: Vec<String> = (0..10).map(|n| n.to_string().repeat(300_000)).collect();
    for message in &messages {
        post(server.addr(), "/broadcast", message).assert_status(202);
    }
    messages.iter().for_each(|message| client.assert_text(message));
}

/// nginx with the socket as its upstream, in the group to which the socket is given.
fn nginx(path: &Path) -> Proxy {
    chown(path, None, Some(PROXY_USER)).unwrap();
    let upstream = format!("http://unix:{}", path.display());
    let proxy = Proxy::nginx_with(|addr: SocketAddr| {
        format!(
            "server {{ listen {addr}; location / {{\n\
             proxy_pass {upstream}; proxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;\n\
             proxy_set_header Host localhost;\n\
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n}} }}"
        )
    });
    eventually(PATIENCE, "the proxy leads somewhere", || get(proxy.addr(), "/livez").status == 200);
    proxy
}

/// The peers of a socket are the trusted proxy `unix`, or strangers.
#[test]
fn a_proxy_behind_a_socket_names_the_client() {
    for (trusted, address) in [(true, "127.0.0.77"), (false, "unix")] {
        let (_folder, path) = place();
        let server = server(&path, if trusted { &["--trusted-proxies", "unix"] } else { &[] });
        let proxy = nginx(&path);
        let mut http = Http::connect_from([127, 0, 0, 77], proxy.addr());
        let headers = "X-Forwarded-For: 6.6.6.6\r\n";
        let target = "/ws?channel=a";
        let request = crate::support::client::upgrade_request(proxy.addr(), target, headers);
        assert_eq!(http.request(request).status, 101);
        drop(http);
        server.wait_for_log(&[&format!(" access: client address={address} ")]);
        assert!(!server.log().contains("address=6.6.6.6"), "{}", server.log());
        let publish = "POST /broadcast HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
                       Connection: close\r\n\r\nx";
        once(proxy.addr(), publish).assert_status(403);
        let own = if trusted { 403 } else { 202 };
        assert_eq!(curl(&path, &["-d", "x", "http://localhost/broadcast"]), own, "{trusted}");
        post(server.addr(), "/broadcast", "x").assert_status(202);
    }
}

/// A socket comes with its server and goes with it; one that a crash has left is replaced.
#[test]
fn a_socket_comes_and_goes_with_its_server() {
    let (_folder, path) = place();
    let mut crashed = server(&path, &[]);
    let health = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wsbcast"));
        let listen = format!("unix:{}", path.display());
        command.args(["health", "--listen", &listen]).output().unwrap().status.code()
    };
    assert_eq!(health(), Some(0));
    crashed.kill();
    assert!(path.exists());
    assert_eq!(health(), Some(1));
    let mut next = server(&path, &[]);
    assert_eq!(curl(&path, &["http://localhost/livez"]), 200);
    let socket = format!("unix:{}", path.display());
    let second = Launch::on_a_free_port(&["--listen", &socket]).run();
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(second.stderr.contains("another process listens there"), "{}", second.stderr);
    assert_eq!(curl(&path, &["http://localhost/livez"]), 200, "it is not disturbed");
    next.signal(&["TERM"]);
    next.assert_exit(0);
    assert!(!path.exists());
}

/// A balancer on the same machine announces its client over the socket.
#[test]
fn a_header_over_a_socket_names_the_client() {
    let (_folder, path) = place();
    let server = server(&path, &["--trusted-proxies", "unix", "--proxy-protocol", "on"]);
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut http = connect(&path);
    http.send(format!("PROXY TCP6 2001:db8::7 ::1 4711 80\r\n{request}"));
    http.response().assert_status(200);
    server.wait_for_log(&[" access: request address=2001:db8::7 "]);
    let mut http = connect(&path);
    http.send(request);
    assert!(http.try_response().is_none(), "without a header it is closed");
}
