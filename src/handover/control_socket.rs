//! The socket at which a process waits for its successor: `--control-socket PATH`.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixListener as StdListener,
    },
    path::{Path, PathBuf},
};

use socket2::Type;
use thiserror::Error;
use tokio::net::UnixListener;

use super::{Link, LinkError};
use crate::{
    limits::CONTROL_QUEUE_MAX,
    socket_file::{SocketFile, SocketFileError, SocketFileRecord},
};

/// For the user of the process alone.
const MODE: u32 = 0o600;

/// The control socket can't be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on the control socket {}: {source}", path.display())]
pub struct ControlSocketError {
    path: PathBuf,
    source: SocketFileError,
}

/// A listening control socket. Its file is removed when this is dropped, unless it was handed on.
#[derive(Debug)]
pub struct ControlSocket {
    /// By type of streams; the system calls are the same.
    listener: UnixListener,
    file: SocketFile,
}

impl ControlSocket {
    /// Listens at `path`, where a socket on which nobody answers is replaced. Inside of a runtime.
    ///
    /// # Errors
    /// The path, and what is wrong with it.
    pub fn bind(path: &Path) -> Result<Self, ControlSocketError> {
        let named = |source| ControlSocketError { path: path.to_owned(), source };
        let (listener, file) =
            SocketFile::listen(path, Type::SEQPACKET, MODE, CONTROL_QUEUE_MAX).map_err(named)?;
        let listener = watched(listener).map_err(|error| named(error.into()))?;
        Ok(Self { listener, file })
    }

    /// One that another process hands on. Its file is the other's until [`ControlSocket::claim`].
    /// Inside of a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn passed(listener: OwnedFd, file: SocketFileRecord) -> Result<Self, ControlSocketError> {
        let named = |error: io::Error| {
            let path = file.path.clone();
            ControlSocketError { path, source: error.into() }
        };
        let listener = watched(listener).map_err(named)?;
        Ok(Self { listener, file: SocketFile::passed(file) })
    }

    /// COMMIT has come: the file is this process', and removed at the end.
    pub fn claim(&mut self) {
        self.file.claim();
    }

    /// Where it listens.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// The file, for a new process, which needs it besides the descriptor.
    #[must_use]
    pub fn record(&self) -> SocketFileRecord {
        self.file.record()
    }

    /// COMMIT was written, another process has the socket now: the file stays when this is dropped.
    pub fn hand_on(&mut self) {
        self.file.hand_on();
    }

    /// The next connection; the inner error is of one that is not let in, which is closed.
    ///
    /// # Errors
    /// The system's: no descriptors left. The next attempt may work, after a while.
    ///
    /// # Cancel safety
    /// Nobody is lost.
    pub async fn accept(&self) -> io::Result<Result<Link, LinkError>> {
        let (connection, _) = self.listener.accept().await?;
        Ok(Link::accepted(connection.into_std()?.into()))
    }
}

/// A listener that the runtime watches.
fn watched(listener: OwnedFd) -> io::Result<UnixListener> {
    let listener = StdListener::from(listener);
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}
