//! The words of the subprotocol `wsbcast.v1`: what clients say, and what they alone are told.

pub(super) mod command;
pub(super) mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
