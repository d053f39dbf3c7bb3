//! The purpose of an accepted handshake, passed from the accepting route to the driver.

use bytes::Bytes;

use crate::{
    admission::AddressGuard, broker::PublisherClass, conn::Credential, drain::Guard,
    http::context::Purpose, hub::Encoding, peer::ClientAddress,
};

/// The purpose of an accepted handshake; it travels with the stream.
pub(in crate::http) struct Handover {
    pub(in crate::http) purpose: Purpose,
    pub(in crate::http) encoding: Encoding,
    pub(in crate::http) publisher: Option<PublisherClass>,
    pub(in crate::http) credential: Option<Credential>,
    pub(in crate::http) client: ClientAddress,
    pub(in crate::http) forwarded: Option<Box<str>>,
    pub(in crate::http) guard: Guard,
    pub(in crate::http) address_guard: Option<AddressGuard>,
    /// The head that is written before the stream is handed over, in place of hyper's answer.
    pub(in crate::http) head: Option<Bytes>,
}
