//! What was published before: where a channel stands, what of its history is in the process's
//! memory, what has to be read from Redis for that, and whether what arrives follows what arrived
//! before.

pub(super) mod allowance;
pub(super) mod empty_epoch;
pub(super) mod memory;
pub(super) mod position_query;
pub(super) mod recoverer;
pub(super) mod sequence;
pub(super) mod stream_reader;
