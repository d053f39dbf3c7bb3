//! The knowledge of a process by itself: its deliveries without Redis, and its publishers' use of
//! Redis. Pure.

pub(super) mod state;
mod stream_quotas;
