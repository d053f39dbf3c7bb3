//! `wsload`: opens WebSocket clients, publishes to them, and checks and times every delivery.
//!
//! Every message carries publisher, sequence number and intended time, so holes, repeats,
//! reordering and latency are facts about each client, not estimates. The public items are for the
//! other tools: charts, stamps and connections, so that a figure means the same in all of them.

mod args;
pub mod chart;
mod clients;
pub mod command;
pub mod connection;
mod dial;
pub mod form;
mod frame;
mod html;
mod inflate;
mod payload;
mod publish;
pub mod report;
mod run;
mod scenario;
pub mod sequence;
pub mod stamp;
mod storm;
mod stream;
pub mod target;
pub mod tls;

pub use frame::client_frame;
