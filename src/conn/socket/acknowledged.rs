//! How many of the bytes written to a client its end has acknowledged, and when it last
//! acknowledged anything: Linux counts that anyway.
//!
//! Asked once, at a client's end, and only if the answer is wanted; and of a client that would have
//! to be given up. No dependency reads `TCP_INFO`,
//! and the socket diagnosis over netlink no longer knows a connection that was reset; so this is
//! the one system call that is made by hand.

use std::{
    ops::Range,
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// `struct tcp_info` of linux/tcp.h up to the end of `tcpi_bytes_acked`, which is its last eight
/// bytes so far: eight flags, 24 numbers of four bytes, two of eight, and it.
const INFO_BYTES: usize = 128;
/// `tcpi_last_ack_recv` in it, in milliseconds: behind the flags and twelve numbers.
const LAST_ACK: Range<usize> = 56..60;

/// How many bytes were acknowledged. `None`: the kernel is older than the number (Linux 4.1).
pub(super) fn bytes(socket: &impl AsFd) -> Option<u64> {
    info(socket).map(|info| u64::from_ne_bytes(*info.last_chunk().expect("it is longer")))
}

/// How long ago the last acknowledgement came; the same.
pub(super) fn age(socket: &impl AsFd) -> Option<Duration> {
    let bytes = info(socket)?[LAST_ACK].try_into().expect("it is that long");
    Some(Duration::from_millis(u32::from_ne_bytes(bytes).into()))
}

#[expect(unsafe_code, reason = "getsockopt has no safe face for this option in the crates used")]
fn info(socket: &impl AsFd) -> Option<[u8; INFO_BYTES]> {
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
    is_told.then_some(info)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    /// The age of the last acknowledgement grows until the other end acknowledges something more.
    #[test]
    fn acknowledgements_have_an_age() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let grown = Duration::from_millis(300);
        while age(&socket).unwrap() < grown {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        socket.write_all(b"x").unwrap();
        peer.read_exact(&mut [0]).unwrap();
        while age(&socket).unwrap() >= grown {
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

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
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        assert!(socket.read(&mut [0]).is_err(), "it was reset");
        assert_eq!(bytes(&socket), Some(100_000));
    }
}
