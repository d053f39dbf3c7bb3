//! The purpose of an accepted handshake, passed from the accepting route to the driver.

use bytes::Bytes;

use crate::{conn::Arrival, http::context::Purpose, hub::Encoding};

/// The purpose of an accepted handshake; it travels with the stream.
pub(in crate::http) struct Handover {
    pub(in crate::http) purpose: Purpose,
    pub(in crate::http) encoding: Encoding,
    pub(in crate::http) arrival: Arrival,
    /// The head that is written before the stream is handed over, in place of hyper's answer.
    pub(in crate::http) head: Option<Bytes>,
}
