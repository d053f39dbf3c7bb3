//! What a process knows by itself: what it did without Redis, and what its publishers have put into
//! Redis. Pure.

pub(super) mod state;
mod stream_quotas;
