//! Reasons why a server could not start, for its operator.

use std::{io, path::PathBuf};

use thiserror::Error;

use super::{BadListeners, BadSocket, TooFew, UnixListenError};
use crate::{broker, config::OpenToStrangers, shard::listener::ListenError};

/// Why a server could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// An address can't be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// A Unix socket can't be listened on.
    #[error(transparent)]
    ListenUnix(#[from] UnixListenError),
    /// The control socket can't be listened on.
    #[cfg(target_os = "linux")]
    #[error(transparent)]
    Control(#[from] crate::handover::ControlSocketError),
    /// The sockets that were handed in can't be served.
    #[error(transparent)]
    Listeners(#[from] BadListeners),
    /// One of the sockets that were handed in is no listener of the server.
    #[error(transparent)]
    Socket(#[from] BadSocket),
    /// Strangers would publish through the sockets that were handed in.
    #[error(transparent)]
    Open(#[from] OpenToStrangers),
    /// None of the default addresses exists here.
    #[error("this machine has none of the default addresses; name one with --listen")]
    NoAddress,
    /// The process may have too few descriptors to work.
    #[error(transparent)]
    Descriptors(#[from] TooFew),
    /// The broker's settings can't work.
    #[error(transparent)]
    Broker(#[from] broker::InvalidSettings),
    /// The old process goes on.
    #[cfg(target_os = "linux")]
    #[error("cannot take over from the process at {}: {failure}", path.display())]
    TakeOver {
        /// Its control socket.
        path: PathBuf,
        /// The reason.
        #[source]
        failure: crate::handover::Failure,
    },
    /// The system refused a thread, a runtime or a handler.
    #[error("could not start: {0}")]
    System(#[from] io::Error),
}
