//! Files that are replaced, left alone, and removed.

use std::{
    fs,
    os::unix::{
        fs::PermissionsExt as _,
        net::{UnixListener, UnixStream},
    },
};

use super::*;

#[test]
fn a_socket_is_for_user_and_group_and_gone_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = UnixSocket::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    UnixStream::connect(&path).unwrap();
    drop(socket);
    assert!(!path.exists());
}

#[test]
fn only_a_socket_without_a_listener_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let first = UnixSocket::bind(&path).unwrap();
    let second = UnixSocket::bind(&path).unwrap_err();
    assert!(matches!(&second, UnixListenError::Taken(at) if *at == path), "{second}");
    UnixStream::connect(&path).expect("the first one is still there");
    drop(first);
    let file = folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    std::os::unix::fs::symlink(&file, folder.path().join("link")).unwrap();
    for name in ["file", "link"] {
        let error = UnixSocket::bind(&folder.path().join(name)).unwrap_err();
        assert!(matches!(error, UnixListenError::NotASocket(_)), "{error}");
        assert!(fs::symlink_metadata(folder.path().join(name)).is_ok());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn a_file_that_is_anothers_by_now_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let socket = UnixSocket::bind(&path).unwrap();
    // Moved, so that its number is not given to another file.
    fs::rename(&path, folder.path().join("moved")).unwrap();
    let other = UnixListener::bind(&path).unwrap();
    drop(socket);
    UnixStream::connect(&path).expect("the other's file stays");
    drop(other);
}

/// The file of a socket that is handed on stays until the last process that has it ends.
#[test]
fn a_file_is_handed_on_with_its_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let mut old = UnixSocket::bind(&path).unwrap();
    let taken = |old: &UnixSocket| {
        let socket = Socket::from(old.duplicate().unwrap());
        let mut new = UnixSocket::adopt(socket, path.clone()).unwrap();
        new.take_file(old.file().unwrap());
        new
    };
    // A new process that does not go on.
    drop(taken(&old));
    assert!(path.exists());
    let mut new = taken(&old);
    old.hand_on();
    new.claim();
    drop(old);
    UnixStream::connect(&path).expect("the new process has it");
    drop(new);
    assert!(!path.exists(), "nobody has it");
}

/// A socket of the service manager's has a file that no process removes.
#[test]
fn a_file_of_nobody_is_not_handed_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let managers = UnixListener::bind(&path).unwrap();
    let socket = Socket::from(std::os::fd::OwnedFd::from(managers));
    let mut adopted = UnixSocket::adopt(socket, path.clone()).unwrap();
    assert_eq!(adopted.file(), None);
    adopted.claim();
    drop(adopted);
    assert!(path.exists());
}
