//! The proxies of these tests in front of a server: the documented ones for requests, and those
//! that pass bytes and send PROXY headers, in front of a plain listener and of one by TLS.

use std::{cell::RefCell, net::SocketAddr};

use rustls::version::TLS13;

use super::{BALANCER, LOG, haproxy_tcp, wait_until_it_leads};
use crate::{
    proxies::{caddy, example, haproxy, nginx},
    support::{
        certificates::Authority,
        client::Client,
        events::stream_request,
        foreign_proxy::Proxy,
        http::{Http, Response},
        server::Server,
        tls::{Tunnel, trusting},
    },
};

/// As the page says it.
const CHECKS_BY_TLS: &str = "check-ssl verify none";
const NAME: &str = "wsbcast.test";
const STREAM_MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// A kind of proxy in front of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Front {
    Nginx,
    Haproxy,
    Caddy,
    /// Those that pass bytes.
    HaproxyTcp,
    NginxStream,
    HaproxyTcpToTls,
    NginxStreamToTls,
}

pub(super) const OF_REQUESTS: [Front; 3] = [Front::Nginx, Front::Haproxy, Front::Caddy];
pub(super) const OF_BYTES: [Front; 4] =
    [Front::HaproxyTcp, Front::NginxStream, Front::HaproxyTcpToTls, Front::NginxStreamToTls];

pub(super) fn all() -> impl Iterator<Item = Front> {
    OF_REQUESTS.into_iter().chain(OF_BYTES)
}

impl Front {
    /// Whether it passes on TLS that the server itself ends.
    pub(super) fn passes_tls(self) -> bool {
        matches!(self, Self::HaproxyTcpToTls | Self::NginxStreamToTls)
    }
}

/// A server behind a proxy that it trusts, or not.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) proxy: Proxy,
    authority: Option<Authority>,
    /// The ways through TLS that are in use.
    tunnels: RefCell<Vec<Tunnel>>,
}

impl World {
    /// The proxy is trusted, and exempt from limits itself.
    pub(super) fn trusting(front: Front, args: &[&str]) -> Self {
        let of_bytes = ["--proxy-protocol", "on", "--trusted-proxies", BALANCER];
        let own: &[&str] = match OF_BYTES.contains(&front) {
            true => &of_bytes,
            false => &["--trusted-proxies", "127.0.0.1"],
        };
        let exempt = ["--limit-exempt", "127.0.0.1", "--limit-exempt", BALANCER];
        Self::new(front, &[own, &exempt, args].concat())
    }

    pub(super) fn new(front: Front, args: &[&str]) -> Self {
        let authority = front.passes_tls().then(Authority::new);
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
            Front::HaproxyTcp => haproxy_tcp(addr, ""),
            Front::HaproxyTcpToTls => {
                assert!(include_str!("../../../docs/deploying.md").contains(CHECKS_BY_TLS));
                haproxy_tcp(addr, CHECKS_BY_TLS)
            }
            Front::NginxStream | Front::NginxStreamToTls => nginx_stream(addr),
        };
        let world = Self { server, proxy, authority, tunnels: RefCell::default() };
        if matches!(front, Front::HaproxyTcp | Front::HaproxyTcpToTls) {
            wait_until_it_leads(|| Some(world.connect(1)));
        }
        world
    }

    /// A connection of the client 127.0.0.`last` through the proxy.
    pub(super) fn connect(&self, last: u8) -> Http {
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

    pub(super) fn client(&self, last: u8, target: &str, headers: &str) -> Result<Client, Response> {
        Client::try_open(self.connect(last), self.proxy.addr(), target, headers)
    }

    /// The head of a stream's answer.
    pub(super) fn stream(&self, target: &str, headers: &str) -> Response {
        let mut http = self.connect(77);
        http.send(stream_request(self.proxy.addr(), target, headers));
        http.try_head().expect("a head")
    }

    pub(super) fn ask(&self, last: u8, line: &str, headers: &str) -> Response {
        self.try_ask(last, line, headers).expect("an answer before the end of the connection")
    }

    pub(super) fn try_ask(&self, last: u8, line: &str, headers: &str) -> Option<Response> {
        self.try_send(last, line, headers)?.try_response()
    }

    /// Sends a request; its answer can be read later.
    pub(super) fn try_send(&self, last: u8, line: &str, headers: &str) -> Option<Http> {
        let request = format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\
             {headers}\r\n"
        );
        let mut http = self.connect(last);
        http.try_send(request).then_some(http)
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
