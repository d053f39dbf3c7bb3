//! What clients are sent: messages in each encoding's form, control messages, history, gaps.

pub(super) mod control_messages;
pub(super) mod encoder;
mod forms;
mod gaps;
mod laid_out;
mod notice;
pub(super) mod replay;
mod replaying;
