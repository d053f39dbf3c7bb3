//! The hand-over between two processes: its wire, and what either side does step by step.
//!
//! The old process (the *giver*) hands sockets and state to a new one (the *taker*), over a socket
//! that the new one connects to. The state is opaque here, bytes and descriptors: this
//! module knows nothing of servers, clients or channels, which stand behind [`Giver`] and
//! [`Taker`]. Linux only.
//!
//! | step | old process | new process |
//! |---|---|---|
//! | greeting | | `Hello`: its version, and that it takes over |
//! | building | `Manifest`: its version, its listeners | builds a whole server, `Built` |
//! | ahead | `Ahead`: what is large, as sheets; it still serves | takes each, `Ack` |
//! | ready | `AheadEnd` | `Ready` |
//! | pausing | stops serving, `Pausing` | |
//! | state | `Part`: the rest, clients in batches | restores each, `Ack`; touches no socket |
//! | prepared | `PartsEnd` | `Prepared` |
//! | commit | `Commit` | serves |
//!
//! # Invariants
//! 1. [`give`] calls exactly one of [`Giver::commit`] and [`Giver::resume`], exactly once, also
//!    when it is dropped or panics: `commit` if and only if COMMIT was written.
//! 2. [`take_over`] calls [`Taker::start`] if and only if it has read COMMIT, and nothing that is
//!    written can be lost: a new process that gives up closes its end for writers first, and then
//!    looks whether COMMIT had been written before.
//! 3. So at most one of them serves, and none only if one of them died that had to.
//! 4. No wait is without a bound ([`crate::limits`]); from [`Giver::pause`] to the end are at most
//!    [`crate::limits::HANDOVER_PAUSE_MAX`].
//! 5. Sent descriptors stay with their sender; received ones are owned from the first moment, so
//!    that no error leaks one.

mod asker;
mod control_socket;
mod failure;
mod giver;
mod line;
mod link;
mod messages;
mod parcel;
mod sheet;
mod step;
mod taker;
mod turns;
mod visitor;

pub use asker::{AskError, Asker, Outcome, ask_upgrade};
pub use control_socket::{ControlSocket, ControlSocketError};
pub use failure::{BadMessage, Failure, ProtocolMismatch};
pub use giver::{Given, Giver, give};
pub use link::{Link, LinkError, Packet, Peer};
pub use messages::{Done, Identity, PROTOCOL_MAJOR, PROTOCOL_MINOR, PartKind, Refused, RefusedFor};
pub use parcel::{Content, Parcel};
pub use sheet::{BadSheet, Sheet, SheetReader, SheetWriter};
pub use step::Step;
pub use taker::{Taker, take_over};
pub use turns::{Turn, Turns};
pub use visitor::{NewProcess, Visitor, receive};

#[cfg(test)]
mod tests;
