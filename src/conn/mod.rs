//! The clients of one shard: from admission to the drop of the descriptor.
//!
//! [`ConnectionTable`] is a table of small entries beside the hub's; the same key names both. It is
//! a state machine driven by `on_ready`, `begin_tick` and `admit`/`connect`: no task, timer or
//! buffer belongs to a single client. What it can't do itself (publish a client's message, drop a
//! subscription at the broker) it hands out as [`Request`]s. It must not know a runtime's tasks.

mod close;
mod entry;
mod hoarding;
mod holders;
mod hub_events;
pub mod keepalive;
mod logged;
mod positions;
mod read;
mod seen;
pub mod socket;
mod table;
mod ticks;
mod timer_wheel;
mod v1;
mod write;

#[cfg(test)]
mod tests;

pub use entry::Endpoint;
pub use logged::clients_are_logged;
pub use positions::{Joined, Wanted};
pub use read::queue::{ClientCommand, OwnMessage};
pub use table::{ClientSettings, Connected, ConnectionTable, FollowUp, Request};
