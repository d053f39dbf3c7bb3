//! The owner of the other end of a loopback connection, or of a Unix socket.
//!
//! The content of a request cannot distinguish `curl` from a proxy that hides its client; the
//! kernel knows which user opened the socket. On Linux it is asked with the exact pair of addresses
//! (netlink `sock_diag`), on the connection's own thread, and answers at once. An unclear answer
//! counts as a stranger: a socket that its process has closed is reported with inode 0 and the user
//! 0, which would look like root, and a port that was released may belong to another process by
//! now.

use socket2::SockRef;

/// The owner of the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This process's own user, or root.
    Us,
    /// Another user, another machine, or unknown.
    Stranger,
    /// The system can't be asked (it is not Linux): the request alone has to be enough.
    Unknowable,
}

/// The owner of the socket that is connected to `socket`.
#[must_use]
pub fn of(socket: &SockRef<'_>) -> Owner {
    system::of(socket)
}

/// Whether this system tells, tried on the listener at `address`.
#[must_use]
pub fn is_told(address: std::net::SocketAddr) -> bool {
    system::is_told(address)
}

/// The users that [`Owner::Us`] stands for, as text; `None` where the system can't be asked.
#[must_use]
pub fn us() -> Option<String> {
    system::us()
}

/// Whether this process's own user is not [`Owner::Us`]: its name also stands for unknown users.
#[must_use]
pub fn we_are_nobody() -> bool {
    system::we_are_nobody()
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::*;

    pub(super) fn of(_socket: &SockRef<'_>) -> Owner {
        Owner::Unknowable
    }

    pub(super) fn is_told(_address: std::net::SocketAddr) -> bool {
        false
    }

    pub(super) fn us() -> Option<String> {
        None
    }

    pub(super) fn we_are_nobody() -> bool {
        false
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::{
        cell::RefCell,
        io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
        os::fd::OwnedFd,
    };

    use netlink_packet_core::{
        NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
    };
    use netlink_packet_sock_diag::{
        SockDiagMessage,
        constants::{
            AF_INET, AF_INET6, IPPROTO_TCP, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2,
        },
        inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
    };
    use rustix::{
        net::{
            AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, netlink, recv,
            send, socket_with, sockopt::socket_peercred,
        },
        process::geteuid,
    };

    use super::*;

    /// The user that stands for users unknown to this user namespace; it is no user of its own.
    const OVERFLOW_UID: u32 = 65534;
    /// "Any socket with these addresses": its cookie is not asked for.
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    /// Larger than an answer without attributes.
    const ANSWER_BYTES: usize = 1024;

    thread_local! {
        /// Opened with the first question.
        static KERNEL: RefCell<Option<Kernel>> = const { RefCell::new(None) };
    }

    /// A netlink socket, connected to the kernel: nobody else's messages reach it.
    struct Kernel {
        socket: OwnedFd,
        asked: u32,
    }

    pub(super) fn of(socket: &SockRef<'_>) -> Owner {
        let Ok(peer) = socket.peer_addr() else { return Owner::Stranger };
        if peer.is_unix() {
            return of_unix(socket);
        }
        let ends = || {
            let local = socket.local_addr().ok()?.as_socket()?;
            let peer = peer.as_socket()?;
            peer.ip().to_canonical().is_loopback().then_some((local, peer))
        };
        let Some((local, peer)) = ends() else { return Owner::Stranger };
        // Looked at last: while this end is connected the addresses are the peer's alone.
        match held(ask(peer, local), peer, local) {
            Some(uid) if is_us(uid) && socket.peer_addr().is_ok() => Owner::Us,
            _ => Owner::Stranger,
        }
    }

    /// A Unix socket keeps the user who connected it, whatever becomes of that process.
    fn of_unix(socket: &SockRef<'_>) -> Owner {
        match socket_peercred(&**socket) {
            Ok(peer) if is_us(peer.uid.as_raw()) => Owner::Us,
            _ => Owner::Stranger,
        }
    }

    pub(super) fn is_told(address: SocketAddr) -> bool {
        let (ip, nobody) = match address.ip() {
            IpAddr::V4(ip) => {
                let own = if ip.is_unspecified() { Ipv4Addr::LOCALHOST } else { ip };
                (own.into(), IpAddr::from(Ipv4Addr::UNSPECIFIED))
            }
            IpAddr::V6(ip) => {
                let own = if ip.is_unspecified() { Ipv6Addr::LOCALHOST } else { ip };
                (own.into(), IpAddr::from(Ipv6Addr::UNSPECIFIED))
            }
        };
        let told = ask(SocketAddr::new(ip, address.port()), SocketAddr::new(nobody, 0));
        matches!(told.as_deref(), Some([listener]) if listener.inode != 0)
    }

    pub(super) fn us() -> Option<String> {
        Some(match geteuid().as_raw() {
            0 | OVERFLOW_UID => "root".to_owned(),
            own => format!("user {own} and root"),
        })
    }

    pub(super) fn we_are_nobody() -> bool {
        geteuid().as_raw() == OVERFLOW_UID
    }

    fn is_us(uid: u32) -> bool {
        uid != OVERFLOW_UID && (uid == 0 || uid == geteuid().as_raw())
    }

    /// The user in `answers`, if they are one, and it is about a socket that a process still has
    /// and that is connected from `peer` to `local`.
    pub(super) fn held(
        answers: Option<Vec<InetResponseHeader>>,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> Option<u32> {
        let [answer] = <[_; 1]>::try_from(answers?).ok()?;
        let id = &answer.socket_id;
        let is_it = id.source_port == peer.port()
            && id.destination_port == local.port()
            && id.source_address.to_canonical() == peer.ip().to_canonical()
            && id.destination_address.to_canonical() == local.ip().to_canonical();
        let is_connected = matches!(answer.state, TCP_ESTABLISHED | TCP_FIN_WAIT1 | TCP_FIN_WAIT2);
        (is_it && is_connected && answer.inode != 0).then_some(answer.uid)
    }

    /// All that the kernel says about the socket at `holder` that is connected to `other`.
    pub(super) fn ask(holder: SocketAddr, other: SocketAddr) -> Option<Vec<InetResponseHeader>> {
        KERNEL.with_borrow_mut(|kernel| {
            if kernel.is_none() {
                *kernel = Some(Kernel::open().ok()?);
            }
            kernel.as_mut()?.ask(holder, other).ok()
        })
    }

    impl Kernel {
        fn open() -> io::Result<Self> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(
                AddressFamily::NETLINK,
                SocketType::DGRAM,
                flags,
                Some(netlink::SOCK_DIAG),
            )?;
            connect(&socket, &netlink::SocketAddrNetlink::new(0, 0))?;
            Ok(Self { socket, asked: 0 })
        }

        fn ask(
            &mut self,
            holder: SocketAddr,
            other: SocketAddr,
        ) -> io::Result<Vec<InetResponseHeader>> {
            self.asked = self.asked.wrapping_add(1);
            send(&self.socket, &question(holder, other, self.asked), SendFlags::empty())?;
            let mut answers = Vec::new();
            let mut buffer = [0; ANSWER_BYTES];
            // The kernel has answered before `send` returned: what would block is the end.
            loop {
                match recv(&self.socket, &mut buffer[..], RecvFlags::empty()) {
                    Ok((_, bytes)) if bytes > buffer.len() => return Ok(Vec::new()),
                    Ok((_, bytes)) => read(&buffer[..bytes], self.asked, &mut answers),
                    Err(rustix::io::Errno::AGAIN) => return Ok(answers),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }

    fn question(holder: SocketAddr, other: SocketAddr, number: u32) -> Vec<u8> {
        // A connection over IPv4 is found as one, whatever kind of socket its ends are.
        let (source, destination) = (holder.ip().to_canonical(), other.ip().to_canonical());
        let request = InetRequest {
            family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: holder.port(),
                destination_port: other.port(),
                source_address: source,
                destination_address: destination,
                interface_id: 0,
                cookie: NO_COOKIE,
            },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = number;
        let payload = NetlinkPayload::from(SockDiagMessage::InetRequest(request));
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    /// Adds what `bytes` say in answer to question `number`; an error says nothing.
    fn read(mut bytes: &[u8], number: u32, answers: &mut Vec<InetResponseHeader>) {
        while let Ok(head) = NetlinkBuffer::new_checked(bytes) {
            let length = head.length() as usize;
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(bytes);
            if let Ok(NetlinkMessage {
                header: NetlinkHeader { sequence_number, .. },
                payload: NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(answer)),
                ..
            }) = message
                && sequence_number == number
            {
                answers.push(answer.header);
            }
            bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests;
