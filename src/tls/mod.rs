//! TLS of the public listeners: certificates, and the session of one connection, without sockets.
//!
//! The library's buffered connection idles at 7.4 KiB, so the sessions here are made of its
//! unbuffered one: a [`Session`] is that, what the socket did not take of the last record, and the
//! beginning of a record that is still to come; both are empty in an idle client. Records are
//! encrypted from the log into a buffer of the thread ([`Scratch`]). [`CertificateStore`] has the
//! certificates, which may be exchanged at any time: sessions go on with theirs. Sockets are
//! others' matter: the ways in and out are closures.

mod certificates;
mod client;
mod pieces;
mod scratch;
mod session;
mod states;
mod store;
mod suites;
#[cfg(test)]
pub(crate) mod tests;
mod validity;

pub use rustls::ServerConfig;

pub use certificates::{BadPair, CertificateSet};
pub use client::{authorities, client_config, no_authorities};
pub use scratch::Scratch;
pub use session::{HandshakeKind, Input, Session};
pub use store::{CertificateStore, Look, PairFiles, Prepared, Reloaded};
