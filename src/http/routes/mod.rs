//! The routes: which request goes where, and a file for each kind of route.

mod access_denied;
mod address_limits;
mod batch;
mod body_type;
mod client;
pub(super) mod cors;
mod disconnect;
mod drain;
mod handshake_log;
mod listener_rights;
mod ops;
pub(super) mod pace;
mod position;
mod publication;
mod publish;
mod publisher;
mod query;
pub(super) mod route;
mod sse;
mod token_refused;
mod upgrade;

#[cfg(any(test, fuzzing))]
pub(crate) use query::fuzzing::queries;
