//! The knowledge of a process by itself: its deliveries without Redis, and its publishers' use of
//! Redis. Pure.

mod moving;
pub(super) mod state;
mod stream_quotas;

pub(in crate::broker) use self::{
    moving::{LocalGiving, LocalTaking},
    state::LocalOutcome,
    stream_quotas::StreamShare,
};
