//! Newcomers by TLS, their turns and their memory, on a shard's intake with real sockets.

use std::{
    io::{ErrorKind, Write as _},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
};

use rustls::{ClientConnection, RootCertStore, pki_types::ServerName};
use tempfile::TempDir;
use tokio::task::spawn_local;

use super::{core, embedded, many_rounds, on_a_shards_thread, until};
use crate::{
    clock::Clock,
    drain::Control,
    http::{Places, Room, tests::Fixture},
    limits::{HTTP_BUFFERS_FREE_BYTES, TLS_HANDSHAKES_PER_TURN},
    shard::{
        accept::give_turns,
        intake::{ConnectionIntake, Ways},
        listener::{Entrance, Transport},
        placement::Placement,
        stream::{PlainStream, TlsAcceptor},
    },
    tls::{CertificateStore, PairFiles, client_config},
};

/// The way into a shard that does nothing else, and gives no turns.
struct World {
    intake: Rc<ConnectionIntake>,
    places: Rc<Places>,
    /// The authorities of its clients.
    roots: RootCertStore,
    listener: TcpListener,
}

/// A certificate of its own, and the authorities that trust it.
fn store() -> (CertificateStore, RootCertStore) {
    let folder = TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["one.test".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = file("one.pem", made.cert.pem());
    let key = file("one.key", made.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (CertificateStore::open(vec![PairFiles { certificate, key }]).unwrap(), roots)
}

impl World {
    async fn new() -> Self {
        let clock = Clock::start();
        let control = Arc::new(Control::default());
        let (_poller, core) = core(clock, embedded(clock).await, &control);
        let metrics = core.metrics.clone();
        let context = Rc::new(Fixture::new().context);
        let places = Places::new(clock, Room { places: 100, spare: 1 }, 1, metrics.clone());
        let placement = Arc::new(Placement::new(std::slice::from_ref(&metrics), 100));
        let (store, roots) = store();
        let config = Arc::new(store).server_config();
        let tls = Some(TlsAcceptor::new(config, metrics, Arc::default(), clock));
        let ways = Ways { placement, index: 0, entrances: Arc::default() };
        let intake = ConnectionIntake::new(core, context, places.clone(), tls, ways);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { intake, places, roots, listener }
    }

    /// A connection that has come with a client's first message, and the client.
    fn newcomer(&self) -> (ClientConnection, TcpStream) {
        let config = client_config(self.roots.clone(), None).unwrap();
        let name = ServerName::try_from("one.test").unwrap();
        let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        session.write_tls(&mut client).unwrap();
        client.set_nonblocking(true).unwrap();
        let (server, peer) = self.listener.accept().unwrap();
        // It has arrived.
        server.peek(&mut [0]).unwrap();
        server.set_nonblocking(true).unwrap();
        let entrance = Entrance { listener: 0, transport: Transport::Tls };
        self.intake.welcome(PlainStream::Bare(server), entrance, peer.into());
        (session, client)
    }
}

/// How many have got the server's first message.
fn answered(clients: &[TcpStream]) -> usize {
    let is_answered = |client: &&TcpStream| match client.peek(&mut [0]) {
        Ok(count) => count > 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    };
    clients.iter().filter(is_answered).count()
}

/// Handshakes of TLS are begun in their turns, each round of the run queue so many; without
/// further turns no further one is.
#[test]
fn tls_handshakes_wait_for_their_turns() {
    on_a_shards_thread(async || {
        let world = World::new().await;
        let count = 3 * TLS_HANDSHAKES_PER_TURN;
        let all: Vec<_> = (0..count).map(|_| world.newcomer().1).collect();
        until(|| answered(&all) >= TLS_HANDSHAKES_PER_TURN).await;
        many_rounds().await;
        assert_eq!(answered(&all), TLS_HANDSHAKES_PER_TURN, "nobody gives turns");
        spawn_local(give_turns(world.intake.clone()));
        until(|| answered(&all) == count).await;
    });
}

/// The part of a record that does not end is charged to its connection, before the first request
/// and within it, and given back.
#[test]
fn an_unfinished_record_is_charged() {
    const CONTENT: usize = 15 * 1024;
    on_a_shards_thread(async || {
        let world = World::new().await;
        spawn_local(give_turns(world.intake.clone()));
        for first in ["", "GET /livez HTTP/1.1\r\nX: "] {
            let (mut session, mut client) = world.newcomer();
            until(|| {
                if session.wants_write() {
                    session.write_tls(&mut client).unwrap();
                } else if session.read_tls(&mut client).is_ok() {
                    session.process_new_packets().unwrap();
                }
                !session.is_handshaking() && !session.wants_write()
            })
            .await;
            session.writer().write_all(first.as_bytes()).unwrap();
            session.write_tls(&mut client).unwrap();
            many_rounds().await;
            let before = world.places.held();
            session.writer().write_all(&[b'x'; CONTENT]).unwrap();
            let mut record = Vec::new();
            session.write_tls(&mut record).unwrap();
            client.write_all(&record[..record.len() - 1]).unwrap();
            until(|| world.places.held() > before).await;
            let held = world.places.held();
            assert!(held >= CONTENT - HTTP_BUFFERS_FREE_BYTES, "{held} after {first:?}");
            drop(client);
            until(|| world.places.held() == 0).await;
        }
    });
}

/// A connection by TLS stops amid its handshake like any other, and is never recorded: once the
/// others are let go it goes on here.
#[test]
fn a_connection_by_tls_stays_where_it_is() {
    on_a_shards_thread(async || {
        let world = World::new().await;
        spawn_local(give_turns(world.intake.clone()));
        world.intake.suspend();
        let (_session, client) = world.newcomer();
        until(|| world.intake.under_way() == 0).await;
        many_rounds().await;
        let all = [client];
        assert_eq!((answered(&all), world.intake.suspended().count()), (0, 0));
        world.intake.let_go();
        until(|| answered(&all) == 1).await;
    });
}
