//! What a process knows by itself: what it did without Redis, and what its publishers have put into
//! Redis. Pure.

pub(super) mod bookkeeping;
mod stream_quotas;
