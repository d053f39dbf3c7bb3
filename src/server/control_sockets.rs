//! The control sockets of a process that takes over: the old process', and maybe one of its own.
//!
//! The old one's is taken over, too, so that the next upgrade works. If the options name another
//! path, the new process listens there instead, and the old path is gone.

use std::{fs, os::fd::OwnedFd, os::unix::fs::MetadataExt as _, path::Path};

use crate::{
    handover::{ControlSocket, ControlSocketError},
    socket_file::SocketFileRecord,
};

/// The sockets, before it is known which process goes on.
#[derive(Debug)]
pub(super) struct ControlSockets {
    /// The old process'.
    passed: Option<ControlSocket>,
    /// At another path.
    own: Option<ControlSocket>,
}

impl ControlSockets {
    /// The old process' socket with its file, and the path that the options name. Listens at that,
    /// unless it is the same file.
    ///
    /// # Errors
    /// When somebody listens at the path already, or nobody can.
    pub(super) fn of(
        passed: Option<(OwnedFd, SocketFileRecord)>,
        named: Option<&Path>,
    ) -> Result<Self, ControlSocketError> {
        let (mut sockets, mut named) = (Self { passed: None, own: None }, named);
        if let Some((socket, mut file)) = passed {
            if let Some(path) = named.filter(|path| is_file(path, &file)) {
                // As it is called here: a shorter name may fit where the whole one does not.
                file.path = path.to_owned();
                named = None;
            }
            sockets.passed = Some(ControlSocket::passed(socket, file)?);
        }
        sockets.own = named.map(ControlSocket::bind).transpose()?;
        Ok(sockets)
    }

    /// The process goes on: the socket at which it listens from here on.
    pub(super) fn claim(self) -> Option<ControlSocket> {
        let Self { mut passed, own } = self;
        passed.iter_mut().for_each(ControlSocket::claim);
        own.or(passed)
    }
}

fn is_file(path: &Path, file: &SocketFileRecord) -> bool {
    let found = fs::symlink_metadata(path);
    found.is_ok_and(|found| (found.dev(), found.ino()) == (file.device, file.number))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::handover::Link;

    fn passed(socket: &ControlSocket) -> Option<(OwnedFd, SocketFileRecord)> {
        Some((socket.as_fd().try_clone_to_owned().unwrap(), socket.record()))
    }

    /// Without a path of its own, and with the same one however it is written, the new process
    /// listens where the old one did.
    #[tokio::test]
    async fn the_socket_of_the_old_process_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("control");
        let other_way = folder.path().join(".").join("control");
        for named in [None, Some(&path), Some(&other_way)] {
            let mut old = ControlSocket::bind(&path).unwrap();
            let sockets = ControlSockets::of(passed(&old), named.map(|path| &**path)).unwrap();
            old.hand_on();
            drop(old);
            let new = sockets.claim().unwrap();
            assert_eq!(new.path(), named.unwrap_or(&path));
            let _link = Link::connect(&path).unwrap();
            new.accept().await.unwrap().unwrap();
            drop(new);
            assert!(!path.exists(), "{named:?}");
        }
    }

    /// A process with a path of its own leaves nothing at the old one.
    #[tokio::test]
    async fn a_path_of_its_own_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut old = ControlSocket::bind(&at("old")).unwrap();
        let sockets = ControlSockets::of(passed(&old), Some(&at("new"))).unwrap();
        Link::connect(&at("old")).expect("it is not decided yet");
        old.hand_on();
        drop(old);
        let new = sockets.claim().unwrap();
        assert_eq!((new.path(), at("old").exists()), (&*at("new"), false));
        let _link = Link::connect(&at("new")).unwrap();
        new.accept().await.unwrap().unwrap();
        let taken = ControlSockets::of(None, Some(&at("new"))).unwrap_err().to_string();
        assert!(taken.contains("another process listens there"), "{taken}");
    }

    /// A new process that does not go on leaves both sockets as they were.
    #[tokio::test]
    async fn sockets_that_are_not_claimed_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let old = ControlSocket::bind(&at("old")).unwrap();
        drop(ControlSockets::of(passed(&old), Some(&at("new"))).unwrap());
        drop(ControlSockets::of(passed(&old), None).unwrap());
        assert!(!at("new").exists());
        let _link = Link::connect(&at("old")).unwrap();
        old.accept().await.unwrap().unwrap();
    }
}
