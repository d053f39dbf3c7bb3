//! The upgrade in place, tested from outside: one process takes another one's clients, listeners
//! and state over, and nobody notices. With many clients and under load `scripts/upgrades` does.
//!
//! A binary of its own, since its processes start others: it is the reaper of all of them.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "the log of a process explains a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod connections;
mod drain;
mod failures;
mod lineage;
mod publishing;
mod tls;
mod ways;
