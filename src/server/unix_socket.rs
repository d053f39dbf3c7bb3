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
        fs::{self, Metadata, Permissions},
        net::TcpStream,
        os::{
            fd::OwnedFd,
            unix::{
                fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
                net::UnixListener,
            },
        },
        path::Path,
    };

    use socket2::{Domain, SockAddr, SockRef, Socket, Type};

    use super::*;
    use crate::{limits::KERNEL_UNSENT_BYTES_MAX, shard::listener::ACCEPT_QUEUE_MAX};

    /// For the server's user and group: proxies are put into the group.
    const MODE: u32 = 0o660;

    /// A handle on a socket that the runtime watches.
    pub(in crate::server) type Watched = tokio::net::UnixListener;

    /// A listening socket, whose file is removed when this is dropped, if it is still its own.
    #[derive(Debug)]
    pub(in crate::server) struct UnixSocket {
        listener: UnixListener,
        file: OwnFile,
    }

    /// The file by which a socket is found.
    #[derive(Debug)]
    struct OwnFile {
        path: PathBuf,
        /// Device and number of the file.
        identity: (u64, u64),
    }

    impl Drop for OwnFile {
        fn drop(&mut self) {
            let is_ours = fs::symlink_metadata(&self.path)
                .is_ok_and(|found| identity(&found) == self.identity);
            if is_ours {
                // Nobody is left to be told; the next start replaces it.
                let _ = fs::remove_file(&self.path);
            }
        }
    }

    fn identity(file: &Metadata) -> (u64, u64) {
        (file.dev(), file.ino())
    }

    impl UnixSocket {
        /// Listens at `path`, where a socket on which nobody answers is replaced.
        pub(in crate::server) fn bind(path: &Path) -> Result<Self, UnixListenError> {
            let named = |error: io::Error| match error.kind() {
                io::ErrorKind::AddrInUse => UnixListenError::Taken(path.to_owned()),
                _ => UnixListenError::Other(path.to_owned(), error),
            };
            make_room(path)?;
            let (socket, address) = socket_at(path).map_err(named)?;
            socket.bind(&address).map_err(named)?;
            let found = fs::symlink_metadata(path).map_err(named)?;
            let file = OwnFile { path: path.to_owned(), identity: identity(&found) };
            // Nobody can connect before `listen`, whatever the mode was until now.
            fs::set_permissions(path, Permissions::from_mode(MODE)).map_err(named)?;
            socket.listen(ACCEPT_QUEUE_MAX).map_err(named)?;
            Ok(Self { listener: OwnedFd::from(socket).into(), file })
        }

        pub(in crate::server) fn path(&self) -> &Path {
            &self.file.path
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

    fn socket_at(path: &Path) -> io::Result<(Socket, SockAddr)> {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok((socket, SockAddr::unix(path)?))
    }

    /// Removes a socket on which nobody answers, and nothing else.
    fn make_room(path: &Path) -> Result<(), UnixListenError> {
        let other = |error| UnixListenError::Other(path.to_owned(), error);
        let found = match fs::symlink_metadata(path) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(other(error)),
        };
        if !found.file_type().is_socket() {
            return Err(UnixListenError::NotASocket(path.to_owned()));
        }
        let (socket, address) = socket_at(path).map_err(other)?;
        match socket.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                // Dropped only if it is still the one that was asked.
                drop(OwnFile { path: path.to_owned(), identity: identity(&found) });
                Ok(())
            }
            // Its queue is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(UnixListenError::Taken(path.to_owned()))
            }
            Err(error) => Err(other(error)),
            Ok(()) => Err(UnixListenError::Taken(path.to_owned())),
        }
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

        pub(in crate::server) fn path(&self) -> &Path {
            match *self {}
        }

        pub(in crate::server) fn watched(&self) -> io::Result<Watched> {
            match *self {}
        }
    }

    pub(in crate::server) async fn accept(listener: &Watched) -> io::Result<TcpStream> {
        match *listener {}
    }
}

pub(super) use system::{UnixSocket, Watched, accept};

#[cfg(all(test, unix))]
mod tests;
