//! The control socket: found, taken over, and where it can't be.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, net::UnixListener},
    time::Duration,
};

use super::*;
use crate::socket_file::SocketFileError;

#[tokio::test]
async fn a_control_socket_is_for_its_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let socket = ControlSocket::bind(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut there = Link::connect(&path).unwrap();
    let here = socket.accept().await.unwrap().unwrap();
    assert_eq!(there.peer().pid, Some(std::process::id()));
    here.send_now(b"x").unwrap();
    assert_eq!(there.receive(Duration::from_secs(5)).await.unwrap().bytes, b"x");
    drop(socket);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_successor_has_the_socket_and_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let mut old = ControlSocket::bind(&path).unwrap();
    // Somebody connects before the hand-over, and is accepted after it.
    let mut early = Link::connect(&path).unwrap();
    let descriptor = std::os::fd::AsFd::as_fd(&old).try_clone_to_owned().unwrap();
    let mut new = ControlSocket::passed(descriptor, old.record()).unwrap();
    old.hand_on();
    new.claim();
    drop(old);
    assert_eq!(new.path(), path);
    let accepted = new.accept().await.unwrap().unwrap();
    accepted.send_now(b"x").unwrap();
    assert_eq!(early.receive(Duration::from_secs(5)).await.unwrap().bytes, b"x");
    Link::connect(&path).expect("the file is still there");
    drop(new);
    assert!(!path.exists(), "the successor removes it");
}

#[tokio::test]
async fn a_successor_that_fails_leaves_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let old = ControlSocket::bind(&path).unwrap();
    let descriptor = std::os::fd::AsFd::as_fd(&old).try_clone_to_owned().unwrap();
    drop(ControlSocket::passed(descriptor, old.record()).unwrap());
    let _link = Link::connect(&path).unwrap();
    old.accept().await.unwrap().unwrap();
}

#[tokio::test]
async fn a_path_without_a_process_is_told_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = folder.path().join("nothing");
    let stream = folder.path().join("stream");
    let _other_kind = UnixListener::bind(&stream).unwrap();
    drop(UnixListener::bind(folder.path().join("gone")).unwrap());
    for path in [&nothing, &folder.path().join("gone")] {
        let error = Link::connect(path).unwrap_err();
        assert!(matches!(error, LinkError::NobodyThere), "{error}");
    }
    let error = Link::connect(&stream).unwrap_err();
    assert!(matches!(error, LinkError::System(_)), "a socket of another kind: {error}");
    let long = folder.path().join("x".repeat(200));
    let error = Link::connect(&long).unwrap_err();
    assert!(matches!(error, LinkError::Path(SocketFileError::PathTooLong(_))), "{error}");
    let error = ControlSocket::bind(&long).unwrap_err().to_string();
    assert!(error.contains("control socket") && error.contains("too long"), "{error}");
}

/// Links fail at once instead of waiting for a process that accepts nobody.
#[tokio::test]
async fn a_process_that_accepts_nobody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let _socket = ControlSocket::bind(&path).unwrap();
    let mut waiting = Vec::new();
    let error = loop {
        match Link::connect(&path) {
            Ok(link) => waiting.push(link),
            Err(error) => break error,
        }
        assert!(waiting.len() < 1000);
    };
    assert!(matches!(error, LinkError::TimedOut), "{error}");
}
