//! Peers that break the protocol, or end, within a message: the library counts on its input then.

use super::*;

/// A record of TLS 1.2's version, as all versions write it.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3], &length[..], content].concat()
}

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;

/// Does all that a server may do with a session, whatever its peer has done: one after the other,
/// beginning with the `first` of them.
fn use_up(pair: &mut Pair, first: usize) {
    for step in first..first + 4 {
        match step % 4 {
            0 => drop(pair.write(&[b"content"])),
            1 => pair.session.close(),
            2 => drop(pair.session.read(&mut pair.scratch, &mut [0; 9], |_| Ok(0))),
            _ => drop(pair.flush()),
        }
    }
}

/// The record of a client's first message.
fn hello(world: &World) -> Vec<u8> {
    let mut pair = Pair::new(world, "one.test");
    pair.client_turn();
    pair.up
}

/// No record of another kind may come between those of a message.
#[test]
fn an_interrupted_message_is_an_error() {
    let world = world(&version::TLS13);
    for first in 0..4 {
        let mut pair = Pair::new(&world, "one.test");
        pair.up = [record(HANDSHAKE, &[1]), record(ALERT, &[1, 0])].concat();
        assert_eq!(pair.read_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(pair.read().unwrap(), Input::End, "and nothing after it is looked at");
        use_up(&mut pair, first);
        assert_eq!(pair.write(&[b"x"]).unwrap_err().kind(), io::ErrorKind::NotConnected);
        assert_eq!(pair.held(), 0);
    }
}

/// The answer to the first message goes out; what was begun behind it is never finished.
#[test]
fn a_begun_message_behind_the_first_one_harms_nobody() {
    for version in BOTH {
        let world = world(version);
        let hello = hello(&world);
        for (first, begun) in (0..4).flat_map(|first| [1, 3, 4].map(|begun| (first, begun))) {
            let mut pair = Pair::new(&world, "one.test");
            let content = [&hello[5..], &[20, 0, 0, 32][..begun]].concat();
            pair.up = record(HANDSHAKE, &content);
            let _ = pair.read_all();
            use_up(&mut pair, first);
            // And one more record, complete or not.
            pair.up = record(HANDSHAKE, &[0; 40]);
            let _ = pair.read_all();
            use_up(&mut pair, first);
        }
    }
}

/// Two whole messages of which the first is refused: the other stays where it is.
#[test]
fn a_bad_message_before_a_good_one_ends_the_session() {
    let world = world(&version::TLS13);
    let hello = hello(&world);
    for first in 0..4 {
        let mut pair = Pair::new(&world, "one.test");
        // A certificate's message without content, where a first message should be.
        pair.up = record(HANDSHAKE, &[&[11, 0, 0, 0], &hello[5..]].concat());
        assert_eq!(pair.read_all().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(pair.session.has_unsent(), "an alert");
        use_up(&mut pair, first);
        assert_eq!(pair.read().unwrap(), Input::End);
    }
}

/// A first message may come in several records, as browsers with long keys send it.
#[test]
fn a_first_message_in_two_records_is_understood() {
    for version in BOTH {
        let world = world(version);
        for cut in [1, 3, 4, 5, 100] {
            let mut pair = Pair::new(&world, "one.test");
            pair.client_turn();
            let (begin, end) = pair.up[5..].split_at(cut);
            let (begin, end) = (record(HANDSHAKE, begin), record(HANDSHAKE, end));
            pair.up = begin;
            assert_eq!(pair.read_all().unwrap(), Input::Nothing);
            assert!(pair.session.has_unfinished_record());
            // A server that asks something of it meanwhile changes nothing.
            assert_eq!(pair.write(&[b"x"]).unwrap_err().kind(), io::ErrorKind::NotConnected);
            pair.session.close();
            assert!(!pair.session.has_unsent());
            pair.up = end;
            pair.talk().unwrap();
            assert!(!pair.session.is_handshaking(), "cut at {cut}");
            assert_eq!(pair.write(&[b"content"]).unwrap(), 7);
            assert_eq!(pair.client_heard(), b"content");
        }
    }
}

/// A client's keys, by which a test writes what its library would not: TLS 1.3, RFC 8446 §5.2.
struct Forger {
    encrypter: Box<dyn rustls::crypto::cipher::MessageEncrypter>,
    sequence: u64,
}

impl Forger {
    /// Goes on where `client` was.
    fn new(client: ClientConnection) -> Self {
        let suite = client.negotiated_cipher_suite().unwrap();
        let suite = suite.tls13().unwrap();
        let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
        use rustls::ConnectionTrafficSecrets::{Aes128Gcm, Aes256Gcm, Chacha20Poly1305};
        let (Aes128Gcm { key, iv } | Aes256Gcm { key, iv } | Chacha20Poly1305 { key, iv }) =
            secrets
        else {
            unreachable!("the suites of TLS 1.3")
        };
        Self { encrypter: suite.aead_alg.encrypter(key, iv), sequence }
    }

    fn record(&mut self, kind: rustls::ContentType, content: &[u8]) -> Vec<u8> {
        let message = rustls::crypto::cipher::OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_3,
            payload: content.into(),
        };
        let encrypted = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        encrypted.encode()
    }
}

/// After the handshake too a message may be begun: whatever is done then, and however it goes on.
#[test]
fn a_begun_change_of_keys_harms_nobody() {
    let mut world = world(&version::TLS13);
    Arc::get_mut(&mut world.client).unwrap().enable_secret_extraction = true;
    for (first, begun) in (0..4).flat_map(|first| (1..=4).map(move |begun| (first, begun))) {
        let mut pair = Pair::greeted(&world);
        let fresh = Pair::new(&world, "one.test").client;
        let mut forger = Forger::new(std::mem::replace(&mut pair.client, fresh));
        let message = [24, 0, 0, 1, 0];
        pair.up = forger.record(rustls::ContentType::Handshake, &message[..begun]);
        assert_eq!(pair.read_all().unwrap(), Input::Nothing);
        assert!(pair.session.has_unfinished_record());
        if first == 3 {
            // It goes on as it should, after content of ours.
            assert_eq!(pair.write(&[b"content"]).unwrap(), 7);
            pair.up = forger.record(rustls::ContentType::Handshake, &message[begun..]);
            assert_eq!(pair.read_all().unwrap(), Input::Nothing);
            assert!(!pair.session.has_unfinished_record());
            assert_eq!(pair.write(&[b"content"]).unwrap(), 7);
        } else {
            use_up(&mut pair, first);
            pair.up = forger.record(rustls::ContentType::ApplicationData, b"between");
            let _ = pair.read_all();
            use_up(&mut pair, first);
        }
    }
}

/// A message's record without content begins nothing.
#[test]
fn an_empty_record_of_a_message_harms_nobody() {
    let mut world = world(&version::TLS13);
    Arc::get_mut(&mut world.client).unwrap().enable_secret_extraction = true;
    for first in 0..4 {
        let mut pair = Pair::greeted(&world);
        let fresh = Pair::new(&world, "one.test").client;
        let mut forger = Forger::new(std::mem::replace(&mut pair.client, fresh));
        pair.up = forger.record(rustls::ContentType::Handshake, b"");
        let mut goes_on = pair.read_all().is_ok();
        assert_eq!(pair.write(&[b"content"]).is_ok(), goes_on);
        for content in [&b"some"[..], b"more"] {
            pair.up = forger.record(rustls::ContentType::ApplicationData, content);
            goes_on &= pair.read_all().is_ok();
        }
        assert_eq!(pair.heard, if goes_on { &b"somemore"[..] } else { b"" });
        use_up(&mut pair, first);
    }
}

/// Records whose frames are in order and whose content is chance: nobody is harmed.
#[test]
fn records_of_noise_are_refused() {
    let mut random = fastrand::Rng::with_seed(13);
    for version in BOTH {
        let world = world(version);
        let hello = hello(&world);
        for round in 0..400 {
            let mut pair = match round % 2 {
                0 => Pair::new(&world, "one.test"),
                _ => Pair::greeted(&world),
            };
            if random.bool() && round % 2 == 0 {
                pair.up.extend_from_slice(&hello);
            }
            for _ in 0..random.usize(1..6) {
                let mut content = vec![0; random.usize(0..60)];
                random.fill(&mut content);
                if content.len() > 4 && random.bool() {
                    content[..4].copy_from_slice(&[random.u8(0..25), 0, 0, random.u8(0..80)]);
                }
                pair.up.extend(record(random.u8(20..24), &content));
            }
            pair.piece = random.usize(1..300);
            let end = pair.read_all();
            if let Err(error) = end {
                assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                assert_eq!(pair.read().unwrap(), Input::End);
            }
            use_up(&mut pair, random.usize(0..4));
        }
    }
}
