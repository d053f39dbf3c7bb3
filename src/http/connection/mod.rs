//! What belongs to one connection beside what hyper knows of it.
//!
//! `state` is where it stands, `places` its place among others, `body` and `answer_body` what comes
//! and goes, `handover` what it is for once HTTP is over. The driver reads them, routes write them.

pub(super) mod answer_body;
pub(super) mod body;
pub(super) mod handover;
pub(super) mod peer;
pub(super) mod places;
pub(super) mod state;
pub(super) mod wire;
