//! The end of a process, tested from outside with real signals: drain, hard limit, exit codes.
//!
//! A binary of its own, since these tests take the time that they are about. The code that they
//! share with the others is in `support`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "the log of a process explains a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod cluster;
mod cycles;
mod drain;
mod forced;
mod hard_limit;
mod steered;
mod undrain;
