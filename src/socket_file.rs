//! The file by which a listening Unix socket is found: made, replaced when stale, and removed.
//!
//! A file belongs to the socket that made it, by device and number: one that another process has
//! put there since is left alone, and so is one whose socket was handed on to another process.

use std::{
    fs::{self, File, Metadata, Permissions},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

/// Nobody can listen at a path.
#[derive(Debug, Error)]
pub enum SocketFileError {
    /// A process answers there.
    #[error("another process listens there")]
    Taken,
    /// There is something else at the path; it is left alone.
    #[error("there is a file that is no socket")]
    NotASocket,
    /// The system has no room for such a path; the number is its length in bytes.
    #[error("a path of {0} bytes is too long for a socket, at most {PATH_BYTES_MAX} are possible")]
    PathTooLong(usize),
    /// Anything else.
    #[error(transparent)]
    Other(#[from] io::Error),
}

/// Longest path of a socket: `sun_path` of the smallest system, less the byte that ends it.
const PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The file of a socket. It is removed when this is dropped, if it is this process' and still the
/// same.
#[derive(Debug)]
pub struct SocketFile {
    record: SocketFileRecord,
    is_ours: bool,
}

/// All that another process needs to take a socket's file over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFileRecord {
    /// Where it is.
    pub path: PathBuf,
    /// The device of the file.
    pub device: u64,
    /// The file's number on it.
    pub number: u64,
}

impl SocketFileRecord {
    fn of(path: &Path, found: &Metadata) -> Self {
        Self { path: path.to_owned(), device: found.dev(), number: found.ino() }
    }
}

impl SocketFile {
    /// Listens at `path` with a socket of type `kind`, nonblocking, where a socket on which nobody
    /// answers is replaced. The file has `mode`: never more, not even for a moment, and nobody
    /// can connect before it has that.
    ///
    /// # Errors
    /// [`SocketFileError`]
    pub fn listen(
        path: &Path,
        kind: Type,
        mode: u32,
        accept_queue_max: i32,
    ) -> Result<(OwnedFd, Self), SocketFileError> {
        make_room(path, kind)?;
        let (socket, address) = socket_at(path, kind)?;
        // The file gets the socket's own mode, less the process' mask, which is never changed:
        // other threads make files, too.
        let socket = File::from(OwnedFd::from(socket));
        let before = socket.set_permissions(Permissions::from_mode(mode));
        let socket = Socket::from(OwnedFd::from(socket));
        if cfg!(target_os = "linux") {
            before?;
        }
        socket.bind(&address).map_err(taken_if_in_use)?;
        let found = fs::symlink_metadata(path)?;
        let file = Self { record: SocketFileRecord::of(path, &found), is_ours: true };
        if found.permissions().mode() & 0o777 != mode {
            // The mask took some of it away, or the system knows no modes of sockets.
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        }
        socket.listen(accept_queue_max)?;
        Ok((socket.into(), file))
    }

    /// The file of a socket that another process hands on. It stays when this is dropped, until
    /// [`SocketFile::claim`]: the other process may go on.
    #[must_use]
    pub fn passed(record: SocketFileRecord) -> Self {
        Self { record, is_ours: false }
    }

    /// The file is this process' from here on, and removed at the end.
    pub fn claim(&mut self) {
        self.is_ours = true;
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.record.path
    }

    /// All that another process needs to take it over, wherever that runs.
    #[must_use]
    pub fn record(&self) -> SocketFileRecord {
        let mut record = self.record.clone();
        if let Ok(path) = std::path::absolute(&record.path) {
            record.path = path;
        }
        record
    }

    /// Leaves the file to the process that the socket was handed on to: this one does not remove
    /// it.
    pub fn hand_on(&mut self) {
        self.is_ours = false;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let path = &self.record.path;
        let is_same = |found: Metadata| SocketFileRecord::of(path, &found) == self.record;
        if self.is_ours && fs::symlink_metadata(path).is_ok_and(is_same) {
            // Nobody is left to be told; the next start replaces it.
            let _ = fs::remove_file(path);
        }
    }
}

/// A new nonblocking socket, and the address of `path`.
///
/// # Errors
/// [`SocketFileError::PathTooLong`], or the system's.
pub fn socket_at(path: &Path, kind: Type) -> Result<(Socket, SockAddr), SocketFileError> {
    let length = path.as_os_str().as_bytes().len();
    if length > PATH_BYTES_MAX {
        return Err(SocketFileError::PathTooLong(length));
    }
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, kind, None)?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn taken_if_in_use(error: io::Error) -> SocketFileError {
    match error.kind() {
        io::ErrorKind::AddrInUse => SocketFileError::Taken,
        _ => error.into(),
    }
}

/// Removes a socket on which nobody answers, and nothing else.
fn make_room(path: &Path, kind: Type) -> Result<(), SocketFileError> {
    let (socket, address) = socket_at(path, kind)?;
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    if !found.file_type().is_socket() {
        return Err(SocketFileError::NotASocket);
    }
    match socket.connect(&address) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            // Removed only if it is still the one that was asked.
            drop(SocketFile { record: SocketFileRecord::of(path, &found), is_ours: true });
            Ok(())
        }
        // Its queue is full; or it is a socket of another type, which is listened on.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_other_type(&error) => {
            Err(SocketFileError::Taken)
        }
        Err(error) => Err(error.into()),
        Ok(()) => Err(SocketFileError::Taken),
    }
}

/// Whether somebody listens, but with another type of socket.
fn is_other_type(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::Error::EPROTOTYPE as i32)
}

#[cfg(test)]
mod tests;
