//! What clients send: bytes, then messages, then commands in their order.

pub(super) mod account;
mod commands;
mod input;
pub(super) mod queue;
