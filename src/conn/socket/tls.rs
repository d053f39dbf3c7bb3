//! Clients that speak TLS: their sockets with their sessions, beside the hub's entries.
//!
//! A client's outlet in the hub is a number, so that plain clients, which are its socket, cost
//! nothing more. Records are made from the log in one buffer of the shard and sent; what the socket
//! does not take of a record stays here, is charged to the budget, and goes out before anything
//! else. The hub learns of it in the ordinary way: not everything was taken ([`Session::write`]).

use std::{
    io::{self, IoSlice},
    sync::Arc,
};

use slab::Slab;

use super::received::Received;
#[cfg(unix)]
use super::unix::Live;
#[cfg(windows)]
use super::windows::Live;
use crate::{
    hub::Budget,
    tls::{Scratch, Session},
};

/// The number of a client among those that speak TLS.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsNumber(u32);

/// One client.
#[derive(Debug)]
struct TlsClient {
    live: Live,
    session: Box<Session>,
    /// The charge for records that the socket has not taken.
    charged_bytes: usize,
}

/// All clients of a shard that speak TLS.
#[derive(Debug)]
pub struct TlsClients {
    clients: Slab<TlsClient>,
    scratch: Scratch,
    budget: Arc<Budget>,
    held_bytes: usize,
}

impl TlsClients {
    /// None so far. The records that they hold will be charged to `budget`.
    pub(super) fn new(budget: Arc<Budget>) -> Self {
        Self { clients: Slab::new(), scratch: Scratch::default(), budget, held_bytes: 0 }
    }

    /// The memory of records that sockets have not taken.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    pub(super) fn insert(&mut self, live: Live, session: Box<Session>) -> TlsNumber {
        let number = self.clients.insert(TlsClient { live, session, charged_bytes: 0 });
        let number = TlsNumber(u32::try_from(number).expect("descriptors are fewer"));
        self.charge(&number);
        number
    }

    /// Forgets a client; its socket is to be dropped. The peer is told that nothing more will come,
    /// if it takes that at once.
    pub(super) fn remove(&mut self, number: &TlsNumber) -> Live {
        self.end(number);
        let client = self.clients.remove(number.0 as usize);
        self.budget.release(client.charged_bytes);
        self.held_bytes -= client.charged_bytes;
        client.live
    }

    pub(super) fn live(&self, number: &TlsNumber) -> &Live {
        &self.clients[number.0 as usize].live
    }

    pub(super) fn live_mut(&mut self, number: &TlsNumber) -> &mut Live {
        &mut self.clients[number.0 as usize].live
    }

    pub(super) fn session(&self, number: &TlsNumber) -> &Session {
        &self.clients[number.0 as usize].session
    }

    pub(super) fn write(
        &mut self,
        number: &TlsNumber,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize> {
        let TlsClient { live, session, charged_bytes } = &mut self.clients[number.0 as usize];
        let result = session.write(slices, &mut self.scratch, &mut |record: &[u8]| {
            live.write_vectored(&[IoSlice::new(record)])
        });
        if *charged_bytes != session.held_output_bytes() {
            self.charge(number);
        }
        result
    }

    pub(super) fn read(&mut self, number: &TlsNumber, buffer: &mut [u8]) -> io::Result<Received> {
        let TlsClient { live, session, .. } = &mut self.clients[number.0 as usize];
        let had_unsent = session.has_unsent();
        let mut wire_bytes = 0;
        let result = session.read(&mut self.scratch, buffer, |into| {
            wire_bytes = live.read(into)?;
            Ok(wire_bytes)
        });
        if !had_unsent && session.has_unsent() {
            // An alert, for one. If it is not taken, it goes out with the next thing.
            self.flush(number);
        }
        result.map(|input| Received { input, wire_bytes })
    }

    /// Says that nothing more will be sent.
    pub(super) fn end(&mut self, number: &TlsNumber) {
        let session = &mut self.clients[number.0 as usize].session;
        if !session.has_unsent() {
            session.close();
            self.flush(number);
        }
    }

    fn flush(&mut self, number: &TlsNumber) {
        let TlsClient { live, session, .. } = &mut self.clients[number.0 as usize];
        // An error will be told to whoever writes or reads next.
        let _ = session.flush(&mut |record: &[u8]| live.write_vectored(&[IoSlice::new(record)]));
        self.charge(number);
    }

    /// Charges what a client holds now in place of what it held.
    fn charge(&mut self, number: &TlsNumber) {
        let client = &mut self.clients[number.0 as usize];
        let held = client.session.held_output_bytes();
        self.budget.charge(held);
        self.budget.release(client.charged_bytes);
        self.held_bytes = self.held_bytes + held - client.charged_bytes;
        client.charged_bytes = held;
    }
}

impl Drop for TlsClients {
    fn drop(&mut self) {
        self.budget.release(self.held_bytes);
    }
}
