//! The clients of one shard: from admission to the drop of the descriptor.
//!
//! [`ConnectionTable`] is a table of small entries beside the hub's; the same key names both. It is
//! a state machine driven by `on_ready`, `begin_tick` and `admit`/`connect`: no task, timer or
//! buffer belongs to a single client. Work that it can't do itself (publishing a client's message,
//! dropping a subscription at the broker) is handed out as [`Request`]s. It must not know a
//! runtime's tasks.
//!
//! Only `table` knows the table; values, encodings and machines beside it work without.

mod arrival;
mod client_rates;
mod client_rights;
mod client_state;
mod command_queue;
mod entry;
mod input_budget;
pub mod keepalive;
mod logged_client;
mod paced_close;
mod positions;
mod record;
mod restored;
mod settings;
pub mod socket;
mod table;
mod timer_wheel;
mod token_deadlines;
mod token_guesses;
mod v1;
mod write;

#[cfg(any(test, fuzzing))]
pub(crate) use v1::fuzzing;

pub use arrival::Arrival;
pub use client_rates::ClientRateSettings;
pub use client_rights::{Credential, VerifiedToken};
pub use command_queue::{ClientCommand, ClientMessage, HiddenToken};
pub use entry::Endpoint;
pub use logged_client::clients_are_logged;
pub use positions::{Joined, SubscribeRequest};
pub use record::BadClientRecord;
pub use restored::{RestoredTable, RestoredTables, TablesTaking};
pub use settings::{ClientPublish, ClientSettings, ResumeMiss};
pub use table::{Connected, ConnectionTable, FollowUp, Request, TableRecording};
