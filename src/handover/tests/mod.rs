//! The wire, the messages, and both sides against everything that can go wrong.

mod control;
mod edges;
mod link;
mod many;
mod protocol;
mod recordings;
mod sheet;
mod sides;
mod sim;
mod steps;

use std::{
    fs,
    io::{ErrorKind, Read as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
};

use super::*;

/// A descriptor to hand over, and its far end, which tells whether copies are left.
pub(super) fn traced() -> (OwnedFd, UnixStream) {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    (near.into(), far)
}

/// Whether all copies of the descriptor are closed.
pub(super) fn is_closed(far: &UnixStream) -> bool {
    match (&mut &*far).read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("{error}"),
    }
}

/// Sheets of this name that this process holds.
pub(super) fn sheets_held(name: &str) -> usize {
    let name = format!("/memfd:{name} ");
    let held = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        // One that was closed meanwhile, by another test, has no link.
        let path = fs::read_link(entry.ok()?.path()).ok()?;
        path.to_string_lossy().starts_with(&name).then_some(())
    });
    held.count()
}
