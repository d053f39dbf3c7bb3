//! The service manager that has started this process, such as systemd, and what it is told.
//!
//! It is told in datagrams of words to the socket that `NOTIFY_SOCKET` names (sd_notify(3)): that
//! the server is ready, reloads or stops, that it needs more time, that its shards live.
//! [`Told`] decides what is due, without IO; [`Notifier`] sends it, and never waits. A process that
//! no such manager has started sends nothing.

mod notice;
mod notifier;
mod passed;
mod told;

pub use notice::Notice;
pub use notifier::{Notifier, prepare_successor};
pub use passed::passed_sockets;
pub use told::{Stage, State, Told};
