//! Modes from the first moment, files that stay, and files that go.

use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

const MODE: u32 = 0o600;

fn listen(path: &Path) -> Result<(OwnedFd, SocketFile), SocketFileError> {
    SocketFile::listen(path, Type::STREAM, MODE, 16)
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_file_has_its_mode_whatever_the_mask_is() {
    let folder = tempfile::tempdir().unwrap();
    for (name, wanted) in [("own", 0o600), ("group", 0o660), ("all", 0o666)] {
        let path = folder.path().join(name);
        let _socket = SocketFile::listen(&path, Type::STREAM, wanted, 16).unwrap();
        assert_eq!(mode(&path), wanted, "{name}");
    }
}

/// A mode that is set after the file was made would leave it open to all before.
#[cfg(target_os = "linux")]
#[test]
fn a_file_has_its_mode_when_it_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (socket, address) = socket_at(&path, Type::STREAM).unwrap();
    let socket = File::from(OwnedFd::from(socket));
    socket.set_permissions(Permissions::from_mode(MODE)).unwrap();
    Socket::from(OwnedFd::from(socket)).bind(&address).unwrap();
    assert_eq!(mode(&path), MODE);
}

#[test]
fn a_file_whose_socket_was_handed_on_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let (socket, mut file) = listen(&path).unwrap();
    drop(SocketFile::passed(file.record()));
    UnixStream::connect(&path).expect("it was not taken over after all");
    let mut taken = SocketFile::passed(file.record());
    file.hand_on();
    drop(file);
    UnixStream::connect(&path).expect("the file stays");
    assert_eq!(taken.path(), path);
    taken.claim();
    drop(taken);
    assert!(!path.exists(), "it went with the process that has it now");
    drop(socket);
}

#[test]
fn a_path_that_is_too_long_is_named_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let error = listen(&folder.path().join("x".repeat(PATH_BYTES_MAX))).unwrap_err();
    assert!(matches!(error, SocketFileError::PathTooLong(n) if n > PATH_BYTES_MAX), "{error}");
    let room = PATH_BYTES_MAX - folder.path().as_os_str().len() - 1;
    let longest = folder.path().join("x".repeat(room));
    let _socket = listen(&longest).expect("the longest one is fine");
}

#[cfg(target_os = "linux")]
#[test]
fn a_listener_of_another_type_keeps_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let stream = UnixListener::bind(&path).unwrap();
    let error = SocketFile::listen(&path, Type::SEQPACKET, MODE, 16).unwrap_err();
    assert!(matches!(error, SocketFileError::Taken), "{error}");
    UnixStream::connect(&path).expect("it is still there");
    drop(stream);
    SocketFile::listen(&path, Type::SEQPACKET, MODE, 16).expect("nobody answers any more");
}
