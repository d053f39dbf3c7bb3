//! Listening Unix sockets: `--listen unix:PATH`.
//!
//! There is one socket for all shards, since the system spreads connections over several sockets
//! of one address only for TCP: the control thread accepts, and places each connection.
//!
//! From there on such a connection is a [`TcpStream`] by type, made of its descriptor: reading,
//! writing, peeking, shutting down and waiting are the same system calls on any stream socket, so
//! there is one path for all clients. TCP's options and addresses fail on it, and are treated
//! as absent: [`crate::peer::PeerAddress`] asks which kind it is, `http::owner` asks its owner in
//! another way, and unsent bytes are bounded here instead of by the listener.

use std::{io, path::PathBuf};

use socket2::Socket;
use thiserror::Error;

/// A Unix socket can't be listened on.
#[derive(Debug, Error)]
pub enum UnixListenError {
    /// A server answers there.
    #[error("cannot listen on unix:{}: another process listens there", .0.display())]
    Taken(PathBuf),
    /// There is something else at the path; it is left alone.
    #[error("cannot listen on unix:{}: there is a file that is no socket", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on unix:{}: {}", .0.display(), .1)]
    Other(PathBuf, #[source] io::Error),
}

#[cfg(unix)]
mod system {
    use std::{
        net::TcpStream,
        os::{fd::OwnedFd, unix::net::UnixListener},
        path::Path,
    };

    use socket2::{SockRef, Type};

    use super::*;
    use crate::{
        limits::KERNEL_UNSENT_BYTES_MAX,
        shard::listener::ACCEPT_QUEUE_MAX,
        socket_file::{SocketFile, SocketFileError, SocketFileRecord},
    };

    /// For the server's user and group: proxies are put into the group.
    const MODE: u32 = 0o660;

    /// A handle on a socket that the runtime watches.
    pub(in crate::server) type Watched = tokio::net::UnixListener;

    /// A listening socket, whose file is removed when this is dropped, if it is still its own.
    #[derive(Debug)]
    pub(in crate::server) struct UnixSocket {
        listener: UnixListener,
        path: PathBuf,
        /// None: it is for somebody else to remove.
        file: Option<SocketFile>,
    }

    impl UnixSocket {
        /// Listens at `path`, where a socket on which nobody answers is replaced.
        pub(in crate::server) fn bind(path: &Path) -> Result<Self, UnixListenError> {
            let named = |error| match error {
                SocketFileError::Taken => UnixListenError::Taken(path.to_owned()),
                SocketFileError::NotASocket => UnixListenError::NotASocket(path.to_owned()),
                SocketFileError::Other(error) => UnixListenError::Other(path.to_owned(), error),
                error @ SocketFileError::PathTooLong(_) => {
                    let error = io::Error::new(io::ErrorKind::InvalidInput, error);
                    UnixListenError::Other(path.to_owned(), error)
                }
            };
            let (listener, file) =
                SocketFile::listen(path, Type::STREAM, MODE, ACCEPT_QUEUE_MAX).map_err(named)?;
            Ok(Self { listener: listener.into(), path: path.to_owned(), file: Some(file) })
        }

        /// A socket that listens at `path` already. The file stays there.
        pub(in crate::server) fn adopt(socket: Socket, path: PathBuf) -> io::Result<Self> {
            socket.set_nonblocking(true)?;
            Ok(Self { listener: OwnedFd::from(socket).into(), path, file: None })
        }

        /// The file, for a process that takes the socket over; `None`: it is nobody's of these two.
        pub(in crate::server) fn file(&self) -> Option<SocketFileRecord> {
            self.file.as_ref().map(SocketFile::record)
        }

        /// The file, from the process that hands the socket on. It is the other's until
        /// [`UnixSocket::claim`].
        pub(in crate::server) fn take_file(&mut self, file: SocketFileRecord) {
            self.file = Some(SocketFile::passed(file));
        }

        /// The file is this process' from here on, and removed at the end.
        pub(in crate::server) fn claim(&mut self) {
            self.file.iter_mut().for_each(SocketFile::claim);
        }

        /// Another process has the socket: its file stays.
        pub(in crate::server) fn hand_on(&mut self) {
            self.file.iter_mut().for_each(SocketFile::hand_on);
        }

        pub(in crate::server) fn path(&self) -> &Path {
            &self.path
        }

        /// Another descriptor of the socket.
        pub(in crate::server) fn duplicate(&self) -> io::Result<OwnedFd> {
            Ok(self.listener.try_clone()?.into())
        }

        /// Another handle on the socket, watched by the runtime.
        pub(in crate::server) fn watched(&self) -> io::Result<Watched> {
            Watched::from_std(self.listener.try_clone()?)
        }
    }

    /// A connection of such a socket, as the rest of the server takes it.
    pub(in crate::server) async fn accept(listener: &Watched) -> io::Result<TcpStream> {
        let (stream, _) = listener.accept().await?;
        let stream = TcpStream::from(OwnedFd::from(stream.into_std()?));
        // Stalled clients must not move their backlog into the kernel.
        SockRef::from(&stream).set_send_buffer_size(KERNEL_UNSENT_BYTES_MAX as usize)?;
        Ok(stream)
    }
}

#[cfg(not(unix))]
mod system {
    use std::{net::TcpStream, path::Path};

    use super::*;

    /// There are none: the option is refused.
    #[derive(Debug)]
    pub(in crate::server) enum UnixSocket {}

    pub(in crate::server) type Watched = UnixSocket;

    impl UnixSocket {
        pub(in crate::server) fn bind(path: &Path) -> Result<Self, UnixListenError> {
            let error = io::ErrorKind::Unsupported.into();
            Err(UnixListenError::Other(path.to_owned(), error))
        }

        pub(in crate::server) fn adopt(_socket: Socket, _path: PathBuf) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(in crate::server) fn path(&self) -> &Path {
            match *self {}
        }

        pub(in crate::server) fn watched(&self) -> io::Result<Watched> {
            match *self {}
        }

        pub(in crate::server) fn claim(&mut self) {
            match *self {}
        }

        pub(in crate::server) fn hand_on(&mut self) {
            match *self {}
        }
    }

    pub(in crate::server) async fn accept(listener: &Watched) -> io::Result<TcpStream> {
        match *listener {}
    }
}

pub(super) use system::{UnixSocket, Watched, accept};

impl UnixSocket {
    /// Listens at all `paths`.
    pub(super) fn bind_all(paths: &[PathBuf]) -> Result<Vec<Self>, UnixListenError> {
        paths.iter().map(|path| Self::bind(path)).collect()
    }
}

#[cfg(all(test, unix))]
mod tests;
