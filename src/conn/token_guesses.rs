//! Bad tokens that clients show over open connections, counted for their addresses.
//!
//! A token may be guessed in the command `token` as in a handshake, so both count alike. The
//! addresses are kept beside the table of clients, by key, of clients that can show a token at all,
//! and only where bad credentials are limited. Closing a client is the table's matter.

use std::{collections::HashMap, sync::Arc};

use crate::{
    admission::AddressLimits, clock::Millis, conn::client_rates::PastLimit, hub::Key,
    peer::ClientAddress,
};

/// The addresses of a shard's clients that may guess; by default nothing is limited.
#[derive(Debug, Default)]
pub(super) struct TokenGuesses {
    limits: Arc<AddressLimits>,
    addresses: HashMap<Key, ClientAddress>,
}

impl TokenGuesses {
    /// Counts in `limits`.
    pub(super) fn new(limits: Arc<AddressLimits>) -> Self {
        Self { limits, addresses: HashMap::new() }
    }

    /// A client is there that can show a token.
    pub(super) fn begin(&mut self, key: Key, client: ClientAddress) {
        if self.limits.counts_credentials() {
            self.addresses.insert(key, client);
        }
    }

    /// The limits in which bad tokens count.
    pub(super) fn limits(&self) -> &Arc<AddressLimits> {
        &self.limits
    }

    /// The address for which a client's bad tokens count.
    pub(super) fn address(&self, key: Key) -> Option<ClientAddress> {
        self.addresses.get(&key).copied()
    }

    /// A client is gone.
    pub(super) fn end(&mut self, key: Key) {
        self.addresses.remove(&key);
    }

    /// A client has shown a bad token; the error if its address has shown too many.
    pub(super) fn bad_token(&self, key: Key, now: Millis) -> Result<(), PastLimit> {
        let Some(&client) = self.addresses.get(&key) else { return Ok(()) };
        self.limits.bad_credential(client, now);
        let is_to_end = !self.limits.is_dry_run();
        self.limits.credential(client, now).map_err(|_| PastLimit { is_to_end })
    }
}
