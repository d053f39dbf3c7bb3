//! How many of the bytes written to a client its end has acknowledged: Linux counts them anyway.
//!
//! Asked once, at a client's end, and only if the answer is wanted. No dependency reads `TCP_INFO`,
//! and the socket diagnosis over netlink no longer knows a connection that was reset; so this is
//! the one system call that is made by hand, and the only `unsafe` of the project.

use std::os::fd::{AsFd, AsRawFd};

/// `struct tcp_info` of linux/tcp.h up to the end of `tcpi_bytes_acked`, which is its last eight
/// bytes so far: eight flags, 24 numbers of four bytes, two of eight, and it.
const INFO_BYTES: usize = 128;

/// `None`: the kernel is older than the number (Linux 4.1).
#[expect(unsafe_code, reason = "getsockopt has no safe face for this option in the crates used")]
pub(super) fn bytes(socket: &impl AsFd) -> Option<u64> {
    let mut info = [0_u8; INFO_BYTES];
    let mut length = libc::socklen_t::try_from(info.len()).expect("it is a small number");
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is borrowed, so it is open during the call. The kernel writes at most
    // `length` bytes, which is what `info` has, and how many into `length`; both outlive the call,
    // and nothing else refers to them. Any bytes are valid in `info`.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let is_told = result == 0 && usize::try_from(length) == Ok(info.len());
    is_told.then(|| u64::from_ne_bytes(*info.last_chunk().expect("it is longer")))
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// Bytes that the other end has read are acknowledged, and known after a reset too.
    #[test]
    fn acknowledged_bytes_are_known_after_a_reset() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        assert_eq!(bytes(&socket), Some(0));
        let sent = [7; 100_000];
        let writer = std::thread::spawn(move || {
            socket.write_all(&sent).unwrap();
            socket
        });
        peer.read_exact(&mut [0; 100_000]).unwrap();
        let mut socket = writer.join().unwrap();
        // The acknowledgement is sent along with its data.
        peer.write_all(b"x").unwrap();
        socket.read_exact(&mut [0]).unwrap();
        assert_eq!(bytes(&socket), Some(100_000));
        socket2::SockRef::from(&peer).set_linger(Some(std::time::Duration::ZERO)).unwrap();
        drop(peer);
        assert!(socket.read(&mut [0]).is_err(), "it was reset");
        assert_eq!(bytes(&socket), Some(100_000));
    }
}
