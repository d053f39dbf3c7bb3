//! The right to publish and administer: no web page has it, nor the internet through a proxy, nor
//! a guess.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use crate::support::{
    client::{Client, upgrade_request},
    frames::{PING, masked},
    http::{Http, Response, get, once, post, post_with},
    metrics::metric,
    publish::Publisher,
    server::{Launch, Server},
};

fn publish_with(addr: SocketAddr, headers: &str) -> Response {
    post_with(addr, "/broadcast", headers, b"x")
}

#[track_caller]
fn assert_forbidden(response: &Response) {
    response.assert_status(403);
    let hint = response.json()["hint"].as_str().unwrap_or_default().to_owned();
    assert!(hint.contains("--api-token"), "the hint names the way out: {hint}");
}

/// An address of this machine that is not loopback.
fn outside_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: this asks the routing table which address would be used.
    socket.connect("192.0.2.1:9").expect("this machine has an address besides loopback");
    socket.local_addr().unwrap().ip()
}

#[test]
fn curl_on_this_machine_may_publish() {
    let server = Server::start(&[]);
    let port = server.addr().port();
    for host in ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.9", "[::1]"] {
        for host in [host.to_owned(), format!("{host}:{port}")] {
            publish_with(server.addr(), &format!("Host: {host}\r\n")).assert_status(202);
        }
    }
}

#[test]
fn a_web_page_may_not_publish() {
    let server = Server::start(&[]);
    let addr = server.addr();
    let port = addr.port();
    for origin in [
        "https://evil.example".to_owned(),
        "null".into(),
        format!("http://127.0.0.1:{}", port.wrapping_add(1)),
        "http://127.0.0.1".into(),
        format!("http://localhost:{port}"),
        format!("http://127.0.0.1:{port}.evil.example"),
    ] {
        assert_forbidden(&publish_with(addr, &format!("Origin: {origin}\r\n")));
    }
    publish_with(addr, &format!("Origin: http://{addr}\r\n")).assert_status(202);
    let forbidden = ["reason=\"forbidden\""];
    assert_eq!(metric(addr, "wsbcast_publish_failures_total", &forbidden), 6.0);
}

#[test]
fn a_foreign_host_name_may_not_publish() {
    let server = Server::start(&[]);
    let port = server.addr().port();
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.1@evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "",
    ] {
        let response = publish_with(server.addr(), &format!("Host: {host}:{port}\r\n"));
        assert!(matches!(response.status, 400 | 403), "{host}: {response:?}");
    }
    // A page that rebinds its name to this machine: Origin and Host agree and are foreign.
    let rebound = format!("Host: evil.example:{port}\r\nOrigin: http://evil.example:{port}\r\n");
    assert_forbidden(&publish_with(server.addr(), &rebound));
}

/// A request that comes through a proxy, as its headers say, may not publish.
#[test]
fn a_request_through_a_proxy_may_not_publish() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    for header in [
        "Forwarded: for=203.0.113.7",
        "X-Forwarded-For: 203.0.113.7",
        "X-Forwarded-Host: example.org",
        "X-Forwarded-Proto: https",
        "x-forwarded-anything: 1",
        "Via: 1.1 proxy",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        assert_forbidden(&publish_with(server.addr(), &format!("{header}\r\n")));
        for addr in [server.addr(), server.admin()] {
            let response = post_with(addr, "/admin/drain", &format!("{header}\r\n"), b"");
            response.assert_status(403);
        }
    }
}

#[test]
fn refused_messages_reach_nobody() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    assert_forbidden(&publish_with(server.addr(), "Via: 1.1 proxy\r\n"));
    Publisher::new(server.addr()).publish_to_all("sentinel");
    client.assert_text("sentinel");
}

/// Another machine may neither publish nor see the admin routes.
#[test]
fn another_machine_may_neither_publish_nor_administer() {
    let server = Server::start(&["--listen", "0.0.0.0:0"]);
    let outside = SocketAddr::new(outside_address(), server.addr().port());
    let local = SocketAddr::from(([127, 0, 0, 1], outside.port()));
    assert_forbidden(&publish_with(outside, ""));
    assert_forbidden(&publish_with(outside, &format!("Host: {local}\r\n")));
    publish_with(local, "").assert_status(202);
    for target in ["/metrics", "/stats", "/admin/drain"] {
        for addr in [outside, local] {
            let status = get(addr, target).status;
            assert!(matches!(status, 403 | 404), "{target} at {addr}: {status}");
        }
    }
    assert_eq!(get(outside, "/readyz").status, 200);
    Client::connect(outside).leave();
}

#[test]
fn a_token_is_needed_and_enough_everywhere() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "from-a-file\n").unwrap();
    let path = file.to_str().unwrap();
    let server = Server::start(&[
        "--listen",
        "0.0.0.0:0",
        "--api-token",
        "secret",
        "--api-token",
        "another",
        "--api-token-file",
        path,
    ]);
    let local = SocketAddr::from(([127, 0, 0, 1], server.addr().port()));
    for headers in [
        "",
        "Authorization: Bearer wrong\r\n",
        "Authorization: Bearer secre\r\n",
        "Authorization: Bearer secret2\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Basic c2VjcmV0\r\n",
        "Authorization: secret\r\n",
    ] {
        let response = publish_with(local, headers);
        response.assert_status(401);
        let challenge = response.header("www-authenticate").unwrap_or_default();
        assert!(challenge.starts_with("Bearer"), "{headers}: {challenge}");
    }
    let outside = SocketAddr::new(outside_address(), server.addr().port());
    let from_a_page = "Origin: https://app.example\r\nVia: 1.1 proxy\r\n";
    for token in ["secret", "another", "from-a-file"] {
        for addr in [local, outside] {
            let bearer = format!("Authorization: Bearer {token}\r\n");
            publish_with(addr, &bearer).assert_status(202);
            publish_with(addr, &format!("{from_a_page}{bearer}")).assert_status(202);
        }
    }
}

#[test]
fn with_a_token_administration_needs_it_too() {
    let server = Server::start(&["--api-token", "secret", "--admin-listen", "127.0.0.1:0"]);
    for target in ["/metrics", "/stats", "/admin/drain"] {
        for addr in [server.addr(), server.admin()] {
            assert_eq!(get(addr, target).status, 200, "no token for GETs: {target}");
        }
        let from_a_page = format!(
            "GET {target} HTTP/1.1\r\nHost: {}\r\nOrigin: https://evil.example\r\n\r\n",
            server.addr()
        );
        once(server.addr(), &from_a_page).assert_status(401);
        let with_token = from_a_page.replace("Origin", "Authorization: Bearer secret\r\nOrigin");
        assert_eq!(once(server.addr(), with_token).status, 200, "{target}");
    }
    for addr in [server.addr(), server.admin()] {
        post(addr, "/admin/drain", "").assert_status(401);
        assert_eq!(get(addr, "/livez").status, 200);
        assert_eq!(get(addr, "/readyz").status, 200);
    }
}

/// `--insecure-api` opens publishing, and never administration.
#[test]
fn insecure_api_never_opens_administration() {
    let server = Server::start(&["--insecure-api", "--listen", "0.0.0.0:0"]);
    let outside = SocketAddr::new(outside_address(), server.addr().port());
    for headers in ["", "Origin: https://evil.example\r\n", "Via: 1.1 proxy\r\n"] {
        publish_with(outside, headers).assert_status(202);
    }
    let status = post(outside, "/admin/drain", "").status;
    assert!(matches!(status, 403 | 404), "{status}");
    let server = Server::start(&["--insecure-api"]);
    let page = "Origin: https://evil.example\r\n";
    publish_with(server.addr(), page).assert_status(202);
    post_with(server.addr(), "/admin/drain", page, b"").assert_status(403);
}

/// The admin listener answers scrapers by private names, but only this machine may order a drain.
#[test]
fn the_admin_listener_answers_private_names() {
    let server = Server::start(&["--admin-listen", "127.0.0.1:0"]);
    let admin = server.admin();
    let named = |target: &str, host: &str| {
        once(admin, format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
    };
    for host in ["10.1.2.3:9000", "pod-7:9000", "pod-7.push.svc:9000", "[2001:db8::1]"] {
        assert_eq!(named("/metrics", host).status, 200, "{host}");
        post_with(admin, "/admin/drain", &format!("Host: {host}\r\n"), b"").assert_status(403);
    }
    // A page of that name that has made it mean this machine would be let in as a scraper.
    for host in ["evil.example:9000", "127.0.0.1.evil.example", "localhost.evil.example:9000"] {
        for target in ["/", "/metrics", "/stats", "/admin/drain"] {
            named(target, host).assert_status(403);
        }
        assert_eq!(named("/readyz", host).status, 200, "probes may use any name");
    }
    for target in ["/ws", "/broadcast"] {
        get(admin, target).assert_status(404);
    }
}

#[test]
fn client_publish_off_loopback_needs_a_token() {
    let listen = ["--client-publish", "broadcast", "--listen", "0.0.0.0:0"];
    let server = Server::start(&[&listen[..], &["--api-token", "secret"]].concat());
    let outside = SocketAddr::new(outside_address(), server.addr().port());
    let mut listener = Client::connect(outside);

    let mut by_query = Client::open(outside, "/ws?token=secret");
    by_query.send_text("by query");
    listener.assert_text("by query");

    let http = Http::connect(outside);
    let bearer = "Authorization: Bearer secret\r\n";
    let mut by_header = Client::try_open(http, outside, "/ws", bearer).unwrap();
    by_header.send_text("by header");
    listener.assert_text("by header");

    listener.send_text("without a token");
    listener.send(masked(true, PING, b""));
    listener.send_text("again");
    let sentinel = publish_with(outside, bearer);
    sentinel.assert_status(202);
    listener.assert_text("x");

    let wrong = upgrade_request(outside, "/ws?token=wrong", "");
    let status = once(outside, wrong).status;
    assert!(matches!(status, 101 | 401), "{status}");
}

/// A variable holds one token as a whole, and a short token is warned of.
#[test]
fn a_variable_holds_one_whole_token() {
    let server = Launch::on_a_free_port(&[]).env("WSBCAST_API_TOKEN", "alpha,beta").start();
    let publish = |token: &str| {
        let headers = format!("Authorization: Bearer {token}\r\n");
        post_with(server.addr(), "/broadcast", &headers, b"x").status
    };
    assert_eq!([publish("alpha,beta"), publish("alpha"), publish("beta")], [202, 401, 401]);
    server.wait_for_log(&["WARN", "comma"]);
    server.wait_for_log(&["WARN", "shorter than 16 characters"]);
    assert!(!server.log().contains("beta"), "{}", server.log());
}

#[test]
fn a_token_file_that_cannot_be_read_is_a_bad_value() {
    let ended = Launch::on_a_free_port(&["--api-token-file", "/nonexistent/token"]).run();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("/nonexistent/token"), "{}", ended.stderr);
}
