//! The promises of the interface, tested from outside: the real binary, real sockets, real Redis.
//!
//! One binary for all of them, so that it links once. Modules follow what a user does: start,
//! connect, publish, look, and what must go on working when Redis or a client misbehaves. The end
//! of a process is in the test binary `signals`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::print_stderr, reason = "the log of a process explains a failed test")]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod access_log;
mod address_limits;
#[cfg(target_os = "linux")]
mod ask_upgrade;
mod behind_proxies;
mod broadcast;
mod broadcast_refused;
mod channels;
mod client_log;
mod client_rates;
mod clients;
mod command_line;
mod compression;
mod cookies;
mod cors;
#[cfg(target_os = "linux")]
mod descriptors;
mod disconnect;
mod disconnect_bearers;
mod docs;
mod fanout;
mod foreign_input;
mod frames;
mod handshake;
mod history;
mod http;
mod issuer;
mod issuer_outage;
mod limits;
mod listen;
mod local_owner;
mod log;
mod long_messages;
mod ops;
mod places;
mod plain_counting;
mod principals;
mod proxies;
mod redis;
mod redis_far;
mod redis_loss;
mod redis_notice;
mod redis_reasons;
mod redis_refusals;
mod redis_rights;
mod redis_subscribers;
mod redis_tls;
mod refused_input;
mod reload;
mod resume;
#[cfg(target_os = "linux")]
mod service_manager;
mod slow_consumers;
#[cfg(target_os = "linux")]
mod socket_activation;
mod sse;
mod sse_end;
mod start;
mod tls;
mod tls_limits;
mod tokens;
mod unix_socket;
mod unread_answers;
mod v1;
mod v1_bounds;
mod v1_loss;
