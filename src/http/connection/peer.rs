//! The client's end of a connection, as far as rights depend on it: address and system user.

use http::{HeaderMap, HeaderName, header};

use crate::{
    http::owner::Owner,
    peer::{ClientAddress, PeerAddress, TrustedProxies},
    telemetry::seldom,
};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Peer {
    pub(in crate::http) address: PeerAddress,
    /// The client of the connection: the other end itself, or the one that it has announced.
    pub(in crate::http) client: ClientAddress,
    /// Requests may name a client behind that one.
    pub(in crate::http) may_forward: bool,
    /// `None`: it was not asked for, and the connection ends with its first answer.
    pub(in crate::http) owner: Option<Owner>,
}

impl Peer {
    /// The client of a request with these headers.
    pub(in crate::http) fn client_of(
        &self,
        headers: &HeaderMap,
        trusted: &TrustedProxies,
    ) -> ClientAddress {
        if !self.may_forward {
            return self.client;
        }
        let lines = |name: HeaderName| headers.get_all(name).iter().map(|line| line.as_bytes());
        let client = trusted.client(self.client, lines(X_FORWARDED_FOR), lines(header::FORWARDED));
        if client == ClientAddress::Unnamed {
            seldom!(
                warn,
                "a trusted proxy does not name its client so that it can be believed, and all such \
                 clients share the limits of one address: let it write X-Forwarded-For or \
                 Forwarded with an address, and remove the other (docs/deploying.md)",
                proxy = %self.client
            );
        }
        client
    }
}
