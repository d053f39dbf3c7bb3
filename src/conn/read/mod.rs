//! What clients send: bytes, then messages, then commands in their order.

mod commands;
mod input;
pub(super) mod input_budget;
pub(super) mod queue;
