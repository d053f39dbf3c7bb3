//! Bytes as they come over the wire: what they cost their client, whatever they mean.

use std::num::NonZeroU32;

use rustls::ClientConnection;

use super::*;
use crate::{
    conn::ClientRateSettings,
    limits::{COMMAND_BYTES, INBOUND_MESSAGE_DEADLINE},
    tls::{Input, Scratch, Session, tests::greeted},
};

/// Clients may send ten times 4 KiB at once.
fn limited() -> ClientSettings {
    let rates = ClientRateSettings { commands_max: NonZeroU32::new(1), ..Default::default() };
    ClientSettings { rates, ..quiet() }
}

impl Table {
    fn client_by_tls(&mut self, encoding: Encoding, session: Session) -> (Key, TcpStream) {
        let channel = [ChannelName::default_channel()];
        let key = self.clients.admit(Endpoint::Ws, encoding, &channel);
        let session = Some(Box::new(session));
        let peer = self.connect_as(key, Millis(0), |all| Connected { session, ..all });
        (key, peer)
    }

    pub(super) fn is_open(&mut self, key: Key) -> bool {
        let entry = entry(&mut self.clients.entries, key);
        entry.is_some_and(|entry| entry.state() == ClientState::Open)
    }
}

/// The records of `client` with `pieces`, one for each.
fn records<'a>(client: &mut ClientConnection, pieces: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut wire = Vec::new();
    for piece in pieces {
        client.writer().write_all(piece).unwrap();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
    }
    wire
}

/// An event stream has nothing to say: its bytes cost it what they cost others.
#[test]
fn a_stream_sends_no_more_than_other_clients() {
    let mut table = table(limited());
    let key = table.clients.admit(Endpoint::Ws, Encoding::Sse, &[ChannelName::default_channel()]);
    let mut peer = table.connect(key, Millis(0));
    peer.write_all(&[b'x'; 10 * COMMAND_BYTES + 1]).unwrap();
    table.read_until(key, Millis(0), |table| table.clients.is_empty() || !table.is_open(key));
    table.clients.on_tick(Millis(10_000));
    assert_eq!(table.closed(CloseReason::RateLimited), 1);
}

/// Records are charged, not the little in them: a message of 2,000 bytes takes 46 KB in records of
/// one byte, each of which the server decrypts.
#[test]
fn records_count_as_they_come_over_the_wire() {
    let mut table = table(limited());
    let (mut client, session) = greeted();
    let (key, mut peer) = table.client_by_tls(Encoding::Plain, session);
    let message = [&[0x82, 0xfe, 0x07, 0xd0, 0, 0, 0, 0][..], &[b'x'; 2_000]].concat();
    let wire = records(&mut client, message[..1_990].chunks(1));
    assert!(wire.len() > 10 * COMMAND_BYTES, "{}", wire.len());
    peer.write_all(&wire).unwrap();
    table.read_until(key, Millis(0), |table| !table.is_open(key));
    table.clients.on_tick(Millis(10_000));
    assert_eq!(table.closed(CloseReason::RateLimited), 1);
}

/// The beginning of a record that came with the handshake is charged, and has a deadline.
#[test]
fn a_record_begun_with_the_handshake_is_accounted() {
    for encoding in [Encoding::Plain, Encoding::V1, Encoding::Sse] {
        let mut table = table(quiet());
        let (mut client, mut session) = greeted();
        let record = records(&mut client, [&[b'x'; 1_000][..]].into_iter());
        let begun = session.read(&mut Scratch::default(), &mut [0; 1_000], |into| {
            into[..900].copy_from_slice(&record[..900]);
            Ok(900)
        });
        assert_eq!(begun.unwrap(), Input::Nothing);
        let (key, _peer) = table.client_by_tls(encoding, session);
        assert!(table.budget.used() >= 900, "{encoding:?}: {}", table.budget.used());
        table.clients.on_tick(Millis::default() + INBOUND_MESSAGE_DEADLINE / 2);
        assert!(table.is_open(key), "{encoding:?}");
        table.clients.on_tick(Millis(100) + INBOUND_MESSAGE_DEADLINE);
        assert!(!table.is_open(key), "{encoding:?}");
    }
}
