//! The past of channels: their positions, the part of their histories in the process's memory, the
//! part to be read from Redis, and whether arriving messages follow those before.

pub(super) mod allowance;
pub(super) mod empty_epoch;
pub(super) mod memory;
pub(super) mod position_query;
pub(super) mod recoverer;
pub(super) mod sequence;
pub(super) mod stream_reader;
