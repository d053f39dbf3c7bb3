//! The state of one connection beside hyper's own.
//!
//! `state` has its stage, `places` its place among others, `body` and `answer_body` input and
//! output, `handover` its purpose after HTTP, `record` the facts that another process needs. The
//! driver reads them, routes write them.

pub(super) mod answer_body;
pub(super) mod body;
pub(super) mod handover;
pub(super) mod peer;
pub(super) mod places;
pub(super) mod record;
pub(super) mod state;
pub(super) mod wire;
