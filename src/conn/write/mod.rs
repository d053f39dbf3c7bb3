//! Output to clients, as bytes: messages in each encoding, control messages, gaps; and the
//! history that they are still to be sent.

pub(super) mod control_messages;
pub(super) mod encoder;
pub(super) mod encodings;
pub(super) mod laid_out;
pub(super) mod notice;
pub(super) mod replay;
