//! TLS behind PROXY headers, and handshakes of TLS that one address begins.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConnection, StreamOwned, pki_types::ServerName, version};
use socket2::{Domain, Socket, Type};

use crate::support::{
    PATIENCE, certificates::Authority, metrics::metric, server::Server, tls::trusting,
};

const NAME: &str = "wsbcast.test";
const REQUEST: &str = "GET /ws HTTP/1.1\r\nHost: wsbcast.test\r\nConnection: upgrade\r\n\
                       Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const V1: &[u8] = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n";
/// The same in the binary version.
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x07\xc0\0\x02\x01\x13\x88\x01\xbb";

/// A server that listens by TLS, too.
struct World {
    server: Server,
    authority: Authority,
}

impl World {
    fn new(args: &[&str]) -> Self {
        let authority = Authority::new();
        let pair = authority.files(&[NAME]);
        let tls = ["--tls-listen", "127.0.0.1:0", "--tls-cert", &pair[0], "--tls-key", &pair[1]];
        let server = Server::start(&[&tls, args].concat());
        Self { server, authority }
    }

    /// A connection by TCP from 127.0.0.`last`.
    fn tcp(&self, last: u8) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let own = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0);
        socket.bind(&own.into()).unwrap();
        socket.connect(&self.server.public()[1].into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A session that has sent nothing, and its first message.
    fn session(&self) -> (ClientConnection, Vec<u8>) {
        let config = Arc::new(trusting(self.authority.path(), &[&version::TLS13]));
        let name = ServerName::try_from(NAME).unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        let mut hello = Vec::new();
        session.write_tls(&mut hello).unwrap();
        (session, hello)
    }

    /// A client from 127.0.0.`last` that says `header` before TLS, in pieces of so many bytes with
    /// its ClientHello; the status of its WebSocket handshake. `None`: it got no TLS.
    fn client(&self, last: u8, header: &[u8], piece: usize) -> Option<(String, impl Sized)> {
        let mut tcp = self.tcp(last);
        let (session, hello) = self.session();
        // A connection that is refused before that may be reset.
        [header, &hello].concat().chunks(piece).try_for_each(|piece| tcp.write_all(piece)).ok()?;
        let mut stream = StreamOwned::new(session, tcp);
        stream.write_all(REQUEST.as_bytes()).ok()?;
        let mut status = [0; 12];
        stream.read_exact(&mut status).ok()?;
        Some((String::from_utf8_lossy(&status[9..]).into_owned(), stream))
    }

    fn limited(&self, limit: &str) -> f64 {
        metric(self.server.addr(), "wsbcast_limited_total", &[&format!("limit=\"{limit}\"")])
    }

    fn handshakes(&self, result: &str) -> f64 {
        let label = format!("result=\"{result}\"");
        metric(self.server.addr(), "wsbcast_tls_handshakes_total", &[&label])
    }
}

/// A header of either version stands before TLS, in one packet with it or in pieces, and its
/// client is that of the log; a proxy that says nothing before TLS is refused.
#[test]
fn a_proxy_header_comes_before_tls() {
    let args = ["--trusted-proxies", "127.0.0.2", "--proxy-protocol", "on", "--access-log", "on"];
    let world = World::new(&args);
    for header in [V1, V2] {
        for piece in [usize::MAX, header.len(), header.len() - 1, header.len() + 1, 7, 1] {
            let (status, stream) = world.client(2, header, piece).expect("it speaks TLS");
            assert_eq!(status, "101", "{header:?} in pieces of {piece}");
            drop(stream);
        }
    }
    world.server.wait_for_log(&[" access: client address=203.0.113.7 ", "code=1006"]);
    let wanted = |log: &str| log.matches("access: client address=203.0.113.7 ").count() == 12;
    crate::support::eventually(PATIENCE, "a line for each", || wanted(&world.server.log()));
    assert!(!world.server.log().contains("address=127.0.0.2"), "{}", world.server.log());
    assert!(world.client(2, b"", usize::MAX).is_none(), "a proxy must announce its client");
    assert!(world.client(3, V2, usize::MAX).is_none(), "no proxy");
    assert_eq!(world.client(3, b"", usize::MAX).unwrap().0, "101", "it speaks for itself");
}

/// An address begins as many handshakes by TLS as without; past it the connection is closed before
/// anything is worked out for it.
#[test]
fn tls_handshakes_of_an_address_are_limited() {
    let world = World::new(&["--handshakes-per-address", "1", "--threads", "3"]);
    let clients: Vec<_> = (0..40).map_while(|_| world.client(2, b"", usize::MAX)).collect();
    let admitted = clients.iter().filter(|(status, _)| status == "101").count();
    // One more comes back with each second.
    assert!((10..30).contains(&admitted), "{admitted}");
    assert_eq!(clients.len(), admitted, "TLS ends first, and HTTP has counted as many");
    assert_eq!((world.limited("tls_handshakes"), world.limited("handshakes")), (1.0, 0.0));
    assert_eq!(world.handshakes("limited"), 1.0);
    assert!(world.client(3, b"", usize::MAX).is_some(), "another address");
    // Connections that say nothing have begun none.
    let silent: Vec<_> = (0..40).map(|_| world.tcp(4)).collect();
    assert_eq!(world.client(4, b"", usize::MAX).unwrap().0, "101");
    drop(silent);
}

/// The client of a PROXY header counts, and its proxy does not.
#[test]
fn a_proxys_clients_count_each_for_itself() {
    let args = ["--handshakes-per-address", "1", "--trusted-proxies", "127.0.0.2"];
    let world = World::new(&[&args[..], &["--proxy-protocol", "on"]].concat());
    let other = b"PROXY TCP4 203.0.113.8 192.0.2.1 5000 443\r\n";
    let begun = (0..40).map_while(|_| world.client(2, V1, usize::MAX)).count();
    assert!((10..30).contains(&begun), "{begun}");
    assert!(world.client(2, other, usize::MAX).is_some());
    // Of a proxy that passes TLS on without a header there is only itself to be counted.
    let world = World::new(&args);
    let begun = (0..25).map_while(|_| world.client(2, b"", usize::MAX)).count();
    assert_eq!((begun, world.limited("tls_handshakes")), (25, 0.0));
}

/// A dry run counts, and exempt networks are not counted.
#[test]
fn a_dry_run_and_exempt_addresses_are_refused_no_tls() {
    let args = ["--handshakes-per-address", "1", "--limit-exempt", "127.0.0.9"];
    let world = World::new(&[&args[..], &["--limits-dry-run"]].concat());
    assert!((0..25).all(|_| world.client(9, b"", usize::MAX).is_some()));
    assert_eq!(world.limited("tls_handshakes"), 0.0);
    assert!((0..25).all(|_| world.client(2, b"", usize::MAX).is_some()));
    let counted = world.limited("tls_handshakes");
    assert!((1.0..=15.0).contains(&counted), "{counted}");
    assert_eq!(world.handshakes("limited"), 0.0);
}
