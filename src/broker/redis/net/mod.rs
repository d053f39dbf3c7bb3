//! Connections to Redis and to sentinels: the URL's destination, bounded frames, one connection,
//! and a pipeline of commands on it. The content of commands is not known here.

pub(super) mod connection;
pub(super) mod connection_error;
pub(super) mod frames;
#[cfg(any(test, fuzzing))]
pub(super) mod fuzzing;
#[cfg(test)]
pub(super) mod memory;
pub(super) mod options;
pub(super) mod pipeline;
