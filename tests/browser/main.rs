//! The JavaScript client in a real Chromium, against the real server.
//!
//! A binary of its own, since it needs a browser: `scripts/test` installs Debian's. Each test has
//! a browser, a page and a server for itself, with a [`stage::Stage`] between them.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "the log of a process explains a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod chromium;
mod client;
mod event_source;
mod faults;
mod rules;
mod stage;
mod tls;
mod tokens;
