//! Certificates are exchanged while clients come, several at a time and all of them without a
//! ticket.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    ClientConfig, ClientConnection, Stream,
    client::Resumption,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{BOTH, NAME, World, not_after};
use crate::support::{PATIENCE, client::Client, eventually, publish::Publisher, tls::trusting};

const EXCHANGES: usize = 20;
const CALLERS: usize = 4;

/// Ends the callers, also where their test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A whole handshake and a request; the certificate that was shown. The signature of the handshake
/// is the certificate's own, or it fails.
fn shown(addr: SocketAddr, config: &Arc<ClientConfig>) -> CertificateDer<'static> {
    let name = ServerName::try_from(NAME).unwrap();
    let mut session = ClientConnection::new(config.clone(), name).unwrap();
    let mut socket = TcpStream::connect(addr).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = Stream::new(&mut session, &mut socket);
    let request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("the handshake and the request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer, and a farewell");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    session.peer_certificates().expect("it has shown one")[0].clone().into_owned()
}

/// No handshake fails, nobody is cut off, and a pair that is in use is the one that is shown.
#[test]
fn certificates_are_exchanged_under_load() {
    let world = World::new(&[]);
    let tunnel = world.tunnel(&BOTH);
    let mut stays = Client::connect(tunnel.addr());
    let before = not_after(&world);
    let configs = BOTH.map(|version| {
        let mut config = trusting(world.authority.path(), &[version]);
        config.resumption = Resumption::disabled();
        Arc::new(config)
    });
    let (addr, configs) = (world.tls_addr(), &configs);
    let (is_over, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
    let call = || {
        while !is_over.load(Ordering::Relaxed) {
            configs.iter().for_each(|config| drop(shown(addr, config)));
            calls.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let _over = Over(&is_over);
        let callers = [(); CALLERS].map(|()| scope.spawn(call));
        for _ in 0..EXCHANGES {
            world.authority.write_pair(&world.pair, &[NAME]);
            let newest = CertificateDer::from_pem_file(&world.pair[0]).unwrap();
            world.server.signal(&["HUP"]);
            eventually(PATIENCE, "it is in use", || shown(addr, &configs[0]) == newest);
            let called = calls.load(Ordering::Relaxed);
            eventually(PATIENCE, "others come", || {
                let has_failed = callers.iter().any(thread::ScopedJoinHandle::is_finished);
                assert!(!has_failed, "a caller has failed");
                calls.load(Ordering::Relaxed) >= called + CALLERS
            });
            // A client that comes from now on is shown no other one.
            configs.iter().for_each(|config| assert_eq!(shown(addr, config), newest));
        }
    });
    assert_eq!((tunnel.refused(), world.handshakes("failed")), (0, 0.0));
    assert!(world.reloads("taken") >= EXCHANGES as f64);
    assert_eq!(not_after(&world), before, "of the same length");
    Publisher::new(world.server.addr()).publish_to_all("still here");
    stays.assert_text("still here");
}
