//! The rules about origins, cookies, limits by address and local programs, through each real proxy:
//! the documented ones for requests, and those that pass bytes and send PROXY headers, in front of
//! a plain listener and of one by TLS.

use std::{cell::RefCell, net::SocketAddr};

use rustls::version::TLS13;

use super::{BALANCER, FORGED, LOG, balancer};
use crate::{
    proxies::{caddy, example, haproxy, nginx},
    support::{
        certificates::Authority,
        client::{Client, upgrade_request},
        events::stream_request,
        foreign_proxy::Proxy,
        http::{Http, Response, get, post},
        metrics::metric,
        server::Server,
        tls::{Tunnel, trusting},
        tokens::{KEY, token_for},
    },
};

const NAME: &str = "wsbcast.test";
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
const OURS: &str = "Origin: https://app.example\r\n";
const LISTED: [&str; 2] = ["--allowed-origins", "https://app.example"];

/// A kind of proxy in front of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Nginx,
    Haproxy,
    Caddy,
    /// Those that pass bytes.
    HaproxyTcp,
    NginxStream,
    NginxStreamToTls,
}

const OF_REQUESTS: [Front; 3] = [Front::Nginx, Front::Haproxy, Front::Caddy];
const OF_BYTES: [Front; 3] = [Front::HaproxyTcp, Front::NginxStream, Front::NginxStreamToTls];

fn all() -> impl Iterator<Item = Front> {
    OF_REQUESTS.into_iter().chain(OF_BYTES)
}

/// A server behind a proxy that it trusts, or not.
struct World {
    server: Server,
    proxy: Proxy,
    authority: Option<Authority>,
    /// The ways through TLS that are in use.
    tunnels: RefCell<Vec<Tunnel>>,
}

impl World {
    /// The proxy is trusted, and exempt from limits itself.
    fn trusting(front: Front, args: &[&str]) -> Self {
        let of_bytes = ["--proxy-protocol", "on", "--trusted-proxies", BALANCER];
        let own: &[&str] = match OF_BYTES.contains(&front) {
            true => &of_bytes,
            false => &["--trusted-proxies", "127.0.0.1"],
        };
        let exempt = ["--limit-exempt", "127.0.0.1", "--limit-exempt", BALANCER];
        Self::new(front, &[own, &exempt, args].concat())
    }

    fn new(front: Front, args: &[&str]) -> Self {
        let authority = (front == Front::NginxStreamToTls).then(Authority::new);
        let files = authority.as_ref().map(|authority| authority.files(&[NAME]));
        let tls = files.as_ref().map(|[certificate, key]| {
            ["--tls-listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key]
        });
        let listen = ["--listen", "127.0.0.1:0"];
        let tls: &[&str] = tls.as_ref().map_or(&[], |args| args);
        let server = Server::start(&[&LOG[..], &listen, tls, args].concat());
        let addr = *server.public().last().expect("it listens");
        let proxy = match front {
            Front::Nginx => nginx([addr; 2]),
            Front::Haproxy => haproxy([addr; 2], false),
            Front::Caddy => caddy([addr; 2]),
            Front::HaproxyTcp => balancer(addr),
            Front::NginxStream | Front::NginxStreamToTls => nginx_stream(addr),
        };
        Self { server, proxy, authority, tunnels: RefCell::default() }
    }

    /// A connection of the client 127.0.0.`last` through the proxy.
    fn connect(&self, last: u8) -> Http {
        let source = [127, 0, 0, last];
        let Some(authority) = &self.authority else {
            return Http::connect_from(source, self.proxy.addr());
        };
        let config = trusting(authority.path(), &[&TLS13]);
        let tunnel = Tunnel::from(source, self.proxy.addr(), NAME, config);
        let http = Http::connect(tunnel.addr());
        self.tunnels.borrow_mut().push(tunnel);
        http
    }

    fn client(&self, last: u8, target: &str, headers: &str) -> Result<Client, Response> {
        Client::try_open(self.connect(last), self.proxy.addr(), target, headers)
    }

    /// The head of a stream's answer.
    fn stream(&self, target: &str, headers: &str) -> Response {
        let mut http = self.connect(77);
        http.send(stream_request(self.proxy.addr(), target, headers));
        http.try_head().expect("a head")
    }

    fn ask(&self, last: u8, line: &str, headers: &str) -> Response {
        self.try_ask(last, line, headers).expect("an answer before the end of the connection")
    }

    fn try_ask(&self, last: u8, line: &str, headers: &str) -> Option<Response> {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\
             {headers}\r\n"
        );
        let mut http = self.connect(last);
        let is_sent = http.try_send(request);
        is_sent.then(|| http.try_response()).flatten()
    }
}

/// The documented nginx that passes bytes.
fn nginx_stream(server: SocketAddr) -> Proxy {
    Proxy::start("nginx", |addr, folder| {
        let folder = folder.display();
        let text =
            example("nginx-stream", [server; 2]).replace("listen 80;", &format!("listen {addr};"));
        assert!(text.contains("proxy_protocol on;"), "{text}");
        let text = text.replace("proxy_pass", &format!("proxy_bind {BALANCER}; proxy_pass"));
        format!(
            "load_module {STREAM_MODULE}; daemon off; master_process off; pid {folder}/pid;\n\
             error_log stderr; events {{}}\n{text}"
        )
    })
}

#[track_caller]
fn assert_limited(answer: &Response, word: &str, secs: std::ops::RangeInclusive<u32>) {
    answer.assert_status(429);
    assert_eq!(answer.json()["error"], word);
    let retry_after: u32 = answer.header("retry-after").expect("it says when").parse().unwrap();
    assert!(secs.contains(&retry_after), "{retry_after}");
}

/// Each client has its own limits behind a trusted proxy, whatever it claims, and the proxy's own
/// exemption is not theirs.
#[test]
fn limits_are_those_of_the_clients_address() {
    let limits = ["--max-connections-per-address", "2", "--handshakes-per-address", "2"];
    for front in all() {
        let world =
            World::trusting(front, &[&limits[..], &["--admin-listen", "127.0.0.1:0"]].concat());
        let _clients = [1, 2].map(|claimed| {
            let headers = format!("X-Forwarded-For: 6.6.6.{claimed}\r\n");
            world.client(77, "/ws?channel=a", &headers).expect("it may")
        });
        for headers in ["X-Forwarded-For: 127.0.0.1\r\n", "Forwarded: for=127.0.0.5\r\n", FORGED] {
            let refused = world.client(77, "/ws?channel=a", headers).expect_err("a third one");
            assert_limited(&refused, "address_full", 5..=30);
        }
        drop(world.client(78, "/ws?channel=a", FORGED).expect("another address"));
        let mut looked_at = 0;
        let refused = loop {
            match world.try_ask(79, "GET /sse?channel=%20", FORGED) {
                Some(answer) if answer.status == 400 => looked_at += 1,
                refused => break refused,
            }
            assert!(looked_at < 60, "{front:?}");
        };
        assert!(looked_at >= 20, "{front:?}: {looked_at}");
        match refused {
            Some(answer) => assert_limited(&answer, "rate_limited", 1..=12),
            // The handshake of TLS is one too many before the request is, and is not answered.
            None => assert_eq!(front, Front::NginxStreamToTls),
        }
        drop(world.client(78, "/ws?channel=a", FORGED).expect("another address"));
        let counted = metric(world.server.admin(), "wsbcast_limited_total", &["clients"]);
        assert_eq!(counted, 3.0, "{front:?}");
        world.server.wait_for_log(&[" access: client ", "address=127.0.0.78 "]);
        assert!(!world.server.log().contains("address=6.6.6"), "{}", world.server.log());
    }
}

/// Behind a proxy that is not trusted all clients are the proxy, for limits too; and none is local.
#[test]
fn behind_an_untrusted_proxy_all_clients_are_one() {
    for front in OF_REQUESTS {
        let world = World::new(front, &["--max-connections-per-address", "2"]);
        let _clients = [77, 78].map(|last| world.client(last, "/ws?channel=a", FORGED).unwrap());
        let refused = world.client(79, "/ws?channel=a", "").expect_err("a third one");
        assert_limited(&refused, "address_full", 5..=30);
        assert_eq!(world.ask(77, "POST /broadcast", "").status, 403, "{front:?}");
    }
}

/// Nothing that comes through a proxy is local; what comes from here directly is, unless the proxy
/// has this address.
#[test]
fn nothing_that_a_proxy_passes_on_is_local() {
    for front in OF_BYTES {
        let world = World::trusting(front, &[]);
        for headers in ["", FORGED, "X-Forwarded-For: 127.0.0.1\r\n"] {
            let publish = world.ask(77, "POST /broadcast", headers);
            assert_eq!(publish.status, 403, "{front:?} {headers}");
            // Bytes are passed on for every route.
            for path in ["/metrics", "/stats", "/admin/drain", "/"] {
                assert_eq!(world.ask(77, &format!("GET {path}"), headers).status, 403, "{path}");
            }
            assert_eq!(world.ask(77, "POST /admin/drain", headers).status, 403);
        }
        // A client that has the server's own address as well.
        assert_eq!(world.ask(1, "POST /broadcast", "").status, 403, "{front:?}");
        post(world.server.addr(), "/broadcast", "x").assert_status(202);
        assert_eq!(get(world.server.addr(), "/metrics").status, 200);
    }
}

/// A server that was not told to expect PROXY headers takes none.
#[test]
fn a_header_without_the_option_is_no_request() {
    let world = World::new(Front::NginxStream, &[]);
    assert_eq!(world.ask(77, "GET /livez", "").status, 400);
    assert_eq!(world.ask(77, "POST /broadcast", "").status, 400);
    get(world.server.addr(), "/livez").assert_status(200);
}

/// The rule about origins, and all that a page has to see of the answers, pass through.
#[test]
fn origins_are_the_pages_own() {
    for front in all() {
        let world =
            World::trusting(front, &[&LISTED[..], &[KEY, "--public-channels", "open"]].concat());
        let allowed = |answer: &Response| {
            let value = answer.header("access-control-allow-origin");
            value.map(str::to_owned)
        };
        let ours = Some("https://app.example".to_owned());
        for page in ["https://evil.example", "null", "http://app.example"] {
            let origin = format!("Origin: {page}\r\n");
            let refused = [
                world.client(77, "/ws?channel=open", &origin).expect_err("another page"),
                world.stream("/sse?channel=open", &origin),
                world.ask(77, "POST /broadcast", &origin),
                world.ask(77, "OPTIONS /broadcast", &origin),
            ];
            for answer in &refused {
                assert_eq!((answer.status, allowed(answer)), (403, None), "{front:?} {page}");
            }
            assert_eq!(refused[0].json()["error"], "bad_origin");
        }
        drop(world.client(77, "/ws?channel=open", OURS).expect("it upgrades"));
        drop(world.client(77, "/ws?channel=open", "").expect("no page"));
        let asked = format!(
            "{OURS}Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: authorization,idempotency-key\r\n"
        );
        let preflight = world.ask(77, "OPTIONS /broadcast", &asked);
        assert_eq!((preflight.status, allowed(&preflight)), (204, ours.clone()), "{front:?}");
        let list = |name: &str| preflight.header(name).unwrap_or_default().to_ascii_lowercase();
        assert!(list("access-control-allow-methods").contains("post"), "{front:?}");
        assert!(list("access-control-allow-headers").contains("authorization"), "{front:?}");
        for (answer, status) in [
            (world.stream("/sse?channel=open", OURS), 200),
            (world.stream("/sse?channel=private", OURS), 401),
            (world.ask(77, "POST /broadcast", OURS), 401),
            (world.ask(77, "GET /client.js", OURS), 200),
        ] {
            assert_eq!((answer.status, allowed(&answer)), (status, ours.clone()), "{front:?}");
            let shown = answer.header("access-control-expose-headers").unwrap_or_default();
            assert!(shown.contains("WWW-Authenticate"), "{front:?}: {:?}", answer.headers);
            let varies = |(name, value): &(String, String)| name == "vary" && value == "Origin";
            assert!(answer.headers.iter().any(varies), "{front:?}: {:?}", answer.headers);
        }
    }
}

/// A login by cookie counts for pages of ours, and for no other, through each proxy.
#[test]
fn cookies_count_for_pages_of_ours() {
    for front in all() {
        let world =
            World::trusting(front, &[&LISTED[..], &[KEY, "--jwt-cookie", "session"]].concat());
        let token = token_for("alice", &["news"], &["news"], 3600);
        let login = format!("Cookie: session={token}\r\n");
        let statuses = |headers: &str| {
            let headers = format!("{headers}{login}");
            let request = upgrade_request(world.proxy.addr(), "/ws?channel=news", &headers);
            [
                world.connect(77).request(request).status,
                world.stream("/sse?channel=news", &headers).status,
                world.ask(77, "POST /broadcast?channel=news", &headers).status,
            ]
        };
        let same_origin = "Sec-Fetch-Site: same-origin\r\n";
        for ours in [OURS, same_origin] {
            assert_eq!(statuses(ours), [101, 200, 202], "{front:?} {ours}");
        }
        assert_eq!(statuses(""), [401; 3], "{front:?}");
        assert_eq!(statuses("Sec-Fetch-Site: cross-site\r\n"), [401; 3], "{front:?}");
        let evil = format!("Origin: https://evil.example\r\n{same_origin}");
        assert_eq!(statuses(&evil), [403; 3], "{front:?}");
        let cookies = world.stream("/sse?channel=news", &format!("{OURS}{login}"));
        assert_eq!(cookies.header("access-control-allow-credentials"), Some("true"), "{front:?}");
        // Its line is the client's own, and has no token.
        world.server.wait_for_log(&[" access: request ", "address=127.0.0.77 ", "sub=\"alice\""]);
        assert!(!world.server.log().contains(token.split('.').nth(2).unwrap()));
    }
}
