//! wsbcast: a WebSocket broadcast server. A message published by `curl` or Redis reaches every
//! client, on all cores and all machines; stopping the server cuts off no client without a word.
//!
//! This is the map of the code. The manual is `README.md` and `docs/`; alternatives that were
//! tried, measured and dropped are in `docs/decisions.md`.
//!
//! # The one idea
//! A channel is a byte log of ready-made WebSocket frames; a client is a byte offset into it.
//! Server frames are not masked, so the bytes are the same for everyone: a message is encoded
//! once per shard (and once more where clients want it compressed), and sending is a write from
//! the log to the socket. No queue, allocation or wake-up per message and client.
//!
//! # Layers: a module names only modules of a lower layer (kept by `tests/tidy`)
//! | layer | module | what it is |
//! |---|---|---|
//! | 8 | [`server`] | bind and run: shards, broker, admin listener, the shutdown's sequence |
//! | 7 | [`config`] | the command line → a `Config` that cannot be wrong |
//! | 6 | [`shard`] | one thread, one runtime, one hub: a complete server |
//! | 5 | [`http`] | the HTTP/1.1 service: handshake, publishing API, ops routes |
//! | 4 | [`conn`] | the clients of a shard: input, keepalive, closing |
//! | 3 | [`broker`] | each channel's order and history: embedded, or Redis |
//! | 3 | [`upgrade_client`] | the client behind `wsbcast upgrade` |
//! | 3 | [`token`] | tokens of clients and publishers: keys, claims, rights |
//! | 2 | [`handover`] | sockets and state from the old process to a new one: wire and steps |
//! | 2 | [`health_client`] | the client behind `wsbcast health` |
//! | 2 | [`service_manager`] | what systemd is told |
//! | 2 | [`hub`], [`metrics`] | logs, cursors, passes; counters |
//! | 2 | [`admission`] | the share of one address, or of one client |
//! | 1 | [`ws`], [`drain`] | RFC 6455 and 7692 without IO; phases and barrier |
//! | 1 | [`channel`], [`position`] | names and patterns; positions in a channel's history |
//! | 1 | [`bans`] | bearers of tokens that are kept out for a while |
//! | 1 | [`peer`] | addresses of clients, behind proxies too; networks |
//! | 1 | [`telemetry`] | the log, which never makes a thread wait |
//! | 1 | [`record`] | what one process writes for another version of it |
//! | 1 | [`socket_file`] | files of Unix sockets |
//! | 1 | [`tls`] | certificates, and TLS sessions without sockets |
//! | 0 | [`clock`], [`limits`], [`spelling`] | time, bounds, misspelt names |
//!
//! # Data path, socket to socket
//! `shard` accepts (or, when it is silent, the control thread does, and [`shard::placement`] gives
//! the connection to another) → `http` answers 101 (the client is in the hub before that, so it
//! misses nothing after) → `conn` owns the bare socket in the shard's own epoll set. A message:
//! `http` or `conn` → [`broker::Broker::publish`] → (Redis, or the sequencer) →
//! [`broker::Sink`] of each shard, its mailbox → `hub`: encoded into the log → pass:
//! `cursor..head` → socket.
//!
//! # A client that comes back
//! The client joins its logs in the hub and is held. Then [`broker::Joins::join`] has the broker
//! confirm the subscription, learns the position after which all messages arrive by themselves, and
//! finds the earlier ones since the client's own position. These are read from the history in
//! pieces ([`broker::History`], `conn/table/replaying.rs`); then the client is released. Messages
//! that are no longer kept are reported to it as missing.
//!
//! # Control path
//! `main`: arguments → `Config` → [`server::Server::bind`] takes all ports → `run`: shard threads,
//! broker, admin listener, "ready". The calling thread is the control thread: it has signals, the
//! drain's coordinator, the periodic notice, the admin listener and a look at the shards' beats,
//! so that busy shards can't delay them. Signal or command → [`drain::Machine`] →
//! [`drain::Control`] tells every shard its phase → [`drain::Barrier`] opens, or the limit passes →
//! broker closed last → exit code.
//!
//! # Invariants, and where they live
//! 1. One encode per message, encoding and shard: [`hub::Hub::publish`].
//! 2. A hub belongs to one thread: [`hub::Hub`] is `!Send`.
//! 3. Per channel a client sees rising offsets without repeats, and a hole is never silent:
//!    `broker/redis` finds and repairs it, [`hub::Hub::publish_at`] drops what was there before,
//!    [`conn::ConnectionTable::lost`] tells what cannot be had; `shard/tests/sim.rs` tries it all.
//! 4. `tail ≤ cursor ≤ head`, or the client is closing: `Hub::check`, run by the simulation.
//! 5. Every client and every request in progress holds one [`drain::Guard`].
//! 6. No client's guard is taken to the end once a shard has seen `waiting`: `http` looks again
//!    after admission.
//! 7. A control frame starts at a frame boundary: `hub`'s outbox.
//! 8. No `RefCell` borrow lives across an await: `shard`'s `Core::with`.
//! 9. Every queue, buffer, loop and wait has a named bound: [`limits`], or an option.
//! 10. The broker outlives the last connection: `Server::run`.
//! 11. Time is handed in: a server has one [`clock::Clock`], and only `clock` reads the system's.

pub mod admission;
pub mod bans;
pub mod broker;
pub mod channel;
pub mod clock;
pub mod config;
pub mod conn;
pub mod drain;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
#[cfg(target_os = "linux")]
pub mod handover;
pub mod health_client;
pub mod http;
pub mod hub;
pub mod limits;
pub mod metrics;
pub mod peer;
pub mod position;
pub mod record;
#[cfg(test)]
mod seeds;
pub mod server;
pub mod service_manager;
pub mod shard;
#[cfg(unix)]
pub mod socket_file;
pub mod spelling;
pub mod telemetry;
pub mod tls;
pub mod token;
pub mod upgrade_client;
pub mod ws;
