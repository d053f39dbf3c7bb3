//! Connections to Redis and to sentinels: where the URL leads, bounded frames, one connection, and
//! a pipeline of commands on it. Nothing here knows what is said on them.

pub(super) mod connection;
pub(super) mod connection_error;
pub(super) mod frames;
pub(super) mod options;
pub(super) mod pipeline;
