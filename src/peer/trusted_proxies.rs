//! Proxies whose word about their client is believed, and the client that they name.
//!
//! Each proxy adds the address that it sees to the end of what it was told. So the list is read
//! from its end, as long as the one that spoke is trusted: the first address that is no trusted
//! proxy is the client, and nothing before it is believed. A trusted proxy that says nothing at all
//! speaks for itself, as health checks do; where it says what is no address, or what cannot be
//! believed, there is a client, and it is unnamed: it must not have what the proxy may.

use crate::{
    limits::FORWARDED_HOPS_MAX,
    peer::{
        ClientAddress,
        forwarded::{Forwarded, ForwardedFor},
        networks::{InvalidNetwork, Networks},
    },
};

/// Proxies whose word about their client is believed; by default none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
    unix: bool,
}

impl TrustedProxies {
    /// The word for the peers of Unix sockets.
    const UNIX: &str = "unix";

    /// Adds what `text` names: a network, an address, or `unix`.
    ///
    /// # Errors
    /// When it names none of them.
    pub fn add(&mut self, text: &str) -> Result<(), InvalidNetwork> {
        if text == Self::UNIX {
            self.unix = true;
            return Ok(());
        }
        self.networks.add(text)
    }

    /// Networks in which there can't be proxies alone.
    pub fn wide(&self) -> impl Iterator<Item = impl std::fmt::Display> {
        self.networks.wide()
    }

    /// Whether nobody is trusted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && !self.unix
    }

    /// Whether the word of a peer at `address` is believed.
    #[must_use]
    pub fn trust(&self, address: ClientAddress) -> bool {
        match address {
            ClientAddress::Unix => self.unix,
            ClientAddress::Ip(_) => self.networks.contain(address),
            ClientAddress::Unnamed => false,
        }
    }

    /// The client behind `nearest`, by the lines of `X-Forwarded-For` and of `Forwarded` (RFC 7239)
    /// in their order. Proxies write the one and often pass a client's own other unchanged, so two
    /// that disagree prove that one was not written by a proxy: then neither counts.
    pub fn client<'a, F, G>(
        &self,
        nearest: ClientAddress,
        forwarded_for: F,
        forwarded: G,
    ) -> ClientAddress
    where
        F: DoubleEndedIterator<Item = &'a [u8]>,
        G: DoubleEndedIterator<Item = &'a [u8]>,
    {
        if !self.trust(nearest) {
            return nearest;
        }
        let mut forwarded_for = ForwardedFor::new(forwarded_for).peekable();
        let mut forwarded = Forwarded::new(forwarded).peekable();
        match (forwarded_for.peek().is_some(), forwarded.peek().is_some()) {
            (_, false) => self.walk(nearest, forwarded_for),
            (false, true) => self.walk(nearest, forwarded),
            (true, true) => {
                let one = self.walk(nearest, forwarded_for);
                if one == self.walk(nearest, forwarded) { one } else { ClientAddress::Unnamed }
            }
        }
    }

    /// Goes from hop to hop, the nearest first; `None` is a hop that is no address.
    fn walk(
        &self,
        nearest: ClientAddress,
        mut hops: impl Iterator<Item = Option<ClientAddress>>,
    ) -> ClientAddress {
        let mut client = nearest;
        for _ in 0..=FORWARDED_HOPS_MAX {
            if !self.trust(client) {
                return client;
            }
            match hops.next() {
                Some(Some(hop)) => client = hop,
                Some(None) => return ClientAddress::Unnamed,
                None => return client,
            }
        }
        // Further away than anybody looks.
        ClientAddress::Unnamed
    }
}

#[cfg(test)]
mod tests;
