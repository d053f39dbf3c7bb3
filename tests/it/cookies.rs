//! A login by cookie, on a whole server: it counts for pages that are known to be ours, and for
//! nobody else, since browsers send cookies by themselves.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::{
    client::{Client, upgrade_request},
    events::{Events, stream_request},
    http::{Http, Response, once, post_with},
    server::Server,
    tokens::{KEY, bearer, token, token_for},
};

/// The page of the option.
const OURS: &str = "Origin: https://app.example\r\n";
const SAME_ORIGIN: &str = "Sec-Fetch-Site: same-origin\r\n";
const ARGS: [&str; 7] = [
    KEY,
    "--jwt-cookie",
    "session",
    "--allowed-origins",
    "https://app.example",
    "--public-channels",
    "open",
];

fn good() -> String {
    token_for("alice", &["news"], &["news"], 3600)
}

/// The header that shows the token as a browser does, among other cookies.
fn cookie(token: &str) -> String {
    format!("Cookie: theme=dark; session={token}; session2=x\r\n")
}

/// The answers to a handshake, a stream and a publication with these headers.
fn all_ways(addr: SocketAddr, headers: &str) -> [Response; 3] {
    let head = |request: String| {
        let mut http = Http::connect(addr);
        http.send(request);
        http.try_head().expect("a head")
    };
    [
        head(upgrade_request(addr, "/ws?channel=news", headers)),
        head(stream_request(addr, "/sse?channel=news", headers)),
        post_with(addr, "/broadcast?channel=news", headers, b"hello"),
    ]
}

fn statuses(addr: SocketAddr, headers: &str) -> [u16; 3] {
    all_ways(addr, headers).map(|answer| answer.status)
}

/// A page of a listed origin, or of the server's own, listens and publishes by its cookie.
#[test]
fn a_cookie_counts_for_pages_of_ours() {
    let server = Server::start(&ARGS);
    let addr = server.addr();
    let login = cookie(&good());
    for page in [OURS, SAME_ORIGIN, &format!("{OURS}Sec-Fetch-Site: cross-site\r\n")] {
        assert_eq!(statuses(addr, &format!("{page}{login}")), [101, 200, 202], "{page}");
    }
    let headers = format!("{OURS}{login}");
    for answer in &all_ways(addr, &headers)[1..] {
        let shown = |name| answer.header(name).unwrap_or_default();
        assert_eq!(shown("access-control-allow-origin"), "https://app.example");
        assert_eq!(shown("access-control-allow-credentials"), "true");
        assert!(answer.header_is("vary", "Origin"), "{answer:?}");
    }
    let asked = "Access-Control-Request-Method: POST\r\n";
    let preflight = once(
        addr,
        format!("OPTIONS /broadcast HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{OURS}{asked}\r\n"),
    );
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-credentials"), Some("true"));

    let socket = Client::try_open(Http::connect(addr), addr, "/ws?channel=news", &headers);
    let mut socket = socket.expect("it upgrades");
    let stream = format!("{SAME_ORIGIN}{login}");
    let mut stream = Events::open_with(Http::connect(addr), addr, "/sse?channel=news", &stream);
    post_with(addr, "/broadcast?channel=news", &headers, b"to both").assert_status(202);
    socket.assert_text("to both");
    assert_eq!(stream.text(), "to both");
}

/// A cookie that comes with anybody's page is as if it were not there.
#[test]
fn a_cookie_of_another_page_does_not_count() {
    let server = Server::start(&ARGS);
    let addr = server.addr();
    let login = cookie(&good());
    for site in ["", "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n"] {
        let headers = format!("{site}{login}");
        let [socket, stream, published] = all_ways(addr, &headers);
        assert_eq!((socket.status, stream.status), (401, 401), "{site}");
        // By a program of this machine it is published all the same, and not by a page's.
        let expected = if site.is_empty() { 202 } else { 401 };
        assert_eq!(published.status, expected, "{site}");
    }
    for page in ["https://evil.example", "null", "https://app.example.evil.example"] {
        let headers = format!("Origin: {page}\r\n{login}");
        for answer in all_ways(addr, &headers) {
            assert_eq!(answer.status, 403, "{page}");
            assert_eq!(answer.header("access-control-allow-origin"), None, "{page}");
        }
    }
    let other_name = login.replace("session=", "Session=");
    assert_eq!(statuses(addr, &format!("{OURS}{other_name}"))[..2], [401, 401]);
}

/// A cookie is a token like another: a bad one is refused, and does no harm beside a good one.
#[test]
fn a_bad_cookie_does_no_harm_beside_a_good_token() {
    let server = Server::start(&ARGS);
    let addr = server.addr();
    let expired = cookie(&token(&json!({"exp": 1, "wsbcast": {"subscribe": ["*"]}})));
    let bad = format!("{OURS}{expired}");
    assert_eq!(statuses(addr, &bad), [401, 401, 401]);
    let refused = post_with(addr, "/broadcast?channel=news", &bad, b"x");
    assert_eq!(refused.json()["error"], "bad_token");
    let open = |headers: &str| {
        let request = upgrade_request(addr, "/ws?channel=open", headers);
        Http::connect(addr).request(request).status
    };
    assert_eq!(open(&bad), 401, "it is shown, and so decides");
    assert_eq!(open(&expired), 101, "it does not count");
    assert_eq!(statuses(addr, &format!("{bad}{}", bearer(&good()))), [101, 200, 202]);
}
