//! Sessions against the library's own client, over a wire in memory that cuts as it likes.

use std::{
    io::{self, IoSlice, Read as _, Write as _},
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, ServerConfig,
    SupportedProtocolVersion, crypto::ring, version,
};

use super::{Input, Scratch, Session};
use crate::limits::TLS_HANDSHAKE_BYTES_MAX;

mod certificates;
mod reading;
mod suites;
mod torn;
mod writing;

/// A server's settings, and a client's that trusts it.
struct World {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    files: certificates::Files,
}

const BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

fn world(version: &'static SupportedProtocolVersion) -> World {
    let files = certificates::Files::new();
    files.pair("one", &["one.test"]);
    let store = Arc::new(files.open(&files.pairs()));
    let mut client = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(trusting(&files))
        .with_no_client_auth();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    World { server: store.server_config(), client: Arc::new(client), files }
}

fn trusting(files: &certificates::Files) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    for certificate in files.certificates() {
        roots.add(certificate).unwrap();
    }
    roots
}

/// The two ends of a session of TLS 1.2 whose handshake is over.
pub(crate) fn greeted_by_tls12() -> (Box<Session>, ClientConnection) {
    let Pair { session, client, .. } = Pair::greeted(&world(&version::TLS12));
    (Box::new(session), client)
}

/// A client and a session with a wire between them.
struct Pair {
    client: ClientConnection,
    session: Session,
    scratch: Scratch,
    /// Bytes on their way to the session, and to the client.
    up: Vec<u8>,
    down: Vec<u8>,
    /// The largest piece that is read from the wire at once.
    piece: usize,
    /// How many bytes the wire to the client takes until it is full.
    room: usize,
    /// The session's plaintext so far.
    heard: Vec<u8>,
    has_ended: bool,
}

impl Pair {
    fn new(world: &World, name: &str) -> Self {
        let name = name.to_owned().try_into().unwrap();
        Self {
            client: ClientConnection::new(world.client.clone(), name).unwrap(),
            session: Session::new(world.server.clone()).unwrap(),
            scratch: Scratch::default(),
            up: Vec::new(),
            down: Vec::new(),
            piece: usize::MAX,
            room: usize::MAX,
            heard: Vec::new(),
            has_ended: false,
        }
    }

    /// A pair whose handshake is over.
    fn greeted(world: &World) -> Self {
        let mut pair = Self::new(world, "one.test");
        pair.talk().unwrap();
        assert!(!pair.session.is_handshaking() && !pair.client.is_handshaking());
        assert_eq!(pair.held(), 0, "an idle session owns no buffer");
        pair
    }

    fn held(&self) -> usize {
        self.session.held_input_bytes() + self.session.held_output_bytes()
    }

    /// The session reads a piece.
    fn read(&mut self) -> io::Result<Input> {
        let mut plaintext = [0; 1000];
        let (up, piece) = (&mut self.up, self.piece);
        let input = self.session.read(&mut self.scratch, &mut plaintext, |into| {
            let count = up.len().min(piece).min(into.len());
            if count == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            into[..count].copy_from_slice(&up[..count]);
            up.drain(..count);
            Ok(count)
        });
        if let Ok(Input::Plaintext(count)) = input {
            self.heard.extend_from_slice(&plaintext[..count]);
        }
        input
    }

    /// The session reads all that is on the wire, or until the end.
    fn read_all(&mut self) -> io::Result<Input> {
        loop {
            match self.read() {
                Ok(Input::End) => return Ok(Input::End),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Input::Nothing);
                }
                other => drop(other?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Self { session, down, room, .. } = self;
        session.flush(&mut |bytes: &[u8]| take(down, room, bytes))
    }

    fn write(&mut self, slices: &[&[u8]]) -> io::Result<usize> {
        let Self { session, scratch, down, room, .. } = self;
        let slices: Vec<_> = slices.iter().map(|slice| IoSlice::new(slice)).collect();
        session.write(&slices, scratch, &mut |bytes: &[u8]| take(down, room, bytes))
    }

    /// The client takes what is on the wire, and puts on it what it has to say.
    fn client_turn(&mut self) {
        while !self.down.is_empty() {
            let count = self.client.read_tls(&mut &self.down[..]).unwrap();
            self.down.drain(..count);
            self.client.process_new_packets().unwrap();
        }
        while self.client.wants_write() {
            self.client.write_tls(&mut self.up).unwrap();
        }
    }

    /// Both go on until neither has anything to say.
    fn talk(&mut self) -> io::Result<()> {
        loop {
            self.client_turn();
            let mut is_quiet = true;
            loop {
                match self.read() {
                    Ok(Input::End) => {
                        self.has_ended = true;
                        break;
                    }
                    Ok(_) => is_quiet = false,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        self.flush()?;
                        return Err(error);
                    }
                }
            }
            self.flush()?;
            if is_quiet && self.down.is_empty() && self.up.is_empty() {
                return Ok(());
            }
        }
    }

    /// All that the client can read.
    fn client_heard(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        loop {
            match self.client.reader().read_to_end(&mut bytes) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => panic!("{error}"),
                _ if self.down.is_empty() => break,
                _ => {}
            }
            let count = self.client.read_tls(&mut &self.down[..]).unwrap();
            self.down.drain(..count);
            self.client.process_new_packets().unwrap();
        }
        self.client_turn();
        bytes
    }
}

/// A client and a session whose handshake is over, for tests of what is done with sessions.
pub(crate) fn greeted() -> (ClientConnection, Session) {
    let Pair { client, session, .. } = Pair::greeted(&world(&version::TLS13));
    (client, session)
}

/// A wire with `room`.
fn take(wire: &mut Vec<u8>, room: &mut usize, bytes: &[u8]) -> io::Result<usize> {
    let count = bytes.len().min(*room);
    if count == 0 {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    wire.extend_from_slice(&bytes[..count]);
    *room -= count;
    Ok(count)
}

#[test]
fn both_versions_and_the_protocol_are_agreed_on() {
    for (version, agreed) in
        BOTH.into_iter().zip([ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3])
    {
        let mut pair = Pair::greeted(&world(version));
        assert_eq!(pair.client.protocol_version(), Some(agreed));
        assert_eq!(pair.client.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert_eq!(pair.session.handshake_kind(), Some(HandshakeKind::Full));
        pair.client.writer().write_all(b"up").unwrap();
        pair.talk().unwrap();
        assert_eq!(pair.heard, b"up");
        assert_eq!(pair.write(&[b"do", b"", b"wn"]).unwrap(), 4);
        assert_eq!(pair.client_heard(), b"down");
        assert_eq!(pair.held(), 0);
    }
}

/// A client that comes back with a ticket is known by it where that was made; elsewhere it is new.
#[test]
fn a_returning_client_resumes_by_its_ticket() {
    for version in BOTH {
        let world = world(version);
        Pair::greeted(&world);
        let again = Pair::greeted(&world);
        assert_eq!(again.session.handshake_kind(), Some(HandshakeKind::Resumed));
        let store = Arc::new(world.files.open(&world.files.pairs()));
        let restarted = World { server: store.server_config(), ..world };
        let unknown = Pair::greeted(&restarted);
        assert_eq!(unknown.session.handshake_kind(), Some(HandshakeKind::Full), "other keys");
    }
}

/// A client that only speaks something else is told so by an alert.
#[test]
fn another_protocol_is_refused() {
    let world = world(&version::TLS13);
    let mut client = (*world.client).clone();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let mut pair = Pair::new(&World { client: Arc::new(client), ..world }, "one.test");
    pair.client_turn();
    while matches!(pair.read(), Ok(Input::Nothing)) {}
    pair.flush().unwrap();
    pair.client.read_tls(&mut &pair.down[..]).unwrap();
    let told = pair.client.process_new_packets().unwrap_err();
    assert!(told.to_string().contains("NoApplicationProtocol"), "{told}");
}

/// A session says that it ends, and hears that its peer does, each while the other may go on.
#[test]
fn each_side_ends_by_itself() {
    for version in BOTH {
        let mut pair = Pair::greeted(&world(version));
        pair.client.writer().write_all(b"last").unwrap();
        pair.client.send_close_notify();
        pair.talk().unwrap();
        assert!(pair.has_ended && pair.heard == b"last");
        assert_eq!(pair.read().unwrap(), Input::End, "and stays so");
        assert_eq!(pair.write(&[b"answer"]).unwrap(), 6);
        pair.session.close();
        pair.flush().unwrap();
        let Pair { client, down, .. } = &mut pair;
        client.read_tls(&mut &down[..]).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        let mut heard = String::new();
        client.reader().read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "answer");
    }
}

#[test]
fn an_ungreeted_session_has_nothing_to_end() {
    let mut pair = Pair::new(&world(&version::TLS13), "one.test");
    pair.session.close();
    assert!(!pair.session.has_unsent());
    assert!(!pair.session.can_be_handed_on());
}

#[test]
fn an_unfinished_greeting_holds_little() {
    let mut pair = Pair::new(&world(&version::TLS13), "one.test");
    pair.client_turn();
    pair.up.truncate(100);
    assert_eq!(pair.read().unwrap(), Input::Nothing);
    assert!(pair.session.has_unfinished_record() && pair.held() == 100);
    // A first message that says that it is as long as a record can be.
    let mut pair = Pair::new(&world(&version::TLS13), "one.test");
    pair.up = [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; TLS_HANDSHAKE_BYTES_MAX]].concat();
    let error = pair.read_all().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert_eq!(pair.held(), 0);
}
