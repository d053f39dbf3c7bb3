//! The facts about a client that its handshake has settled: they travel with its stream, from the
//! route that lets it in to the table of clients.

use crate::{
    admission::AddressGuard, broker::PublisherClass, conn::client_rights::Credential, drain::Guard,
    peer::ClientAddress,
};

/// A client that was let in, without its connection.
#[derive(Debug)]
pub struct Arrival {
    /// The class as which it publishes, if it may, and if clients may at all.
    pub publisher: Option<PublisherClass>,
    /// The credential that it has shown, where any counts.
    pub credential: Option<Credential>,
    /// Its address.
    pub client: ClientAddress,
    /// The client that a proxy says it speaks for; for the log only, since it is unverified, and
    /// None unless the log names clients.
    pub forwarded: Option<Box<str>>,
    /// Holds the drain open; to be dropped after the descriptor.
    pub guard: Guard,
    /// Counts the client at its address, if that is limited.
    pub address_guard: Option<AddressGuard>,
}

#[cfg(test)]
impl Arrival {
    /// One that has shown nothing, may not publish, and is counted nowhere but by `guard`.
    pub(crate) fn of_anybody(guard: Guard) -> Self {
        Self {
            publisher: None,
            credential: None,
            client: ClientAddress::Unix,
            forwarded: None,
            guard,
            address_guard: None,
        }
    }
}
