//! A connected Unix socket that carries messages, each with its descriptors.
//!
//! A socket of type `SEQPACKET`: a message goes in one piece, or not at all, so there are no
//! partial writes, a process that is killed never leaves half of one behind, and descriptors belong
//! to exactly the message they came with. Its price is a bound on the length, by the socket's
//! buffer: longer content goes into a [`Sheet`](super::Sheet). Descriptors that were received are
//! owned from the first moment, and closed with the message if anything is wrong with it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::Shutdown,
    os::{
        fd::{BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    path::Path,
    time::Duration,
};

use rustix::{
    cmsg_space,
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recv, recvmsg, sendmsg,
    },
    process::geteuid,
};
use socket2::{Domain, SockRef, Socket, Type};
use thiserror::Error;
use tokio::{io::Interest, net::UnixStream, time::timeout};

use crate::{
    limits::{LINK_DESCRIPTORS_MAX, LINK_MESSAGE_BYTES_MAX},
    socket_file::{SocketFileError, socket_at},
};

/// The end of a link, which is of no more use.
#[derive(Debug, Error)]
pub enum LinkError {
    /// Nobody listens at the path.
    #[error("no process listens there")]
    NobodyThere,
    /// The other end was closed, or its process died.
    #[error("the other process has closed the connection")]
    Closed,
    /// The other process did not take, or send, a message in time.
    #[error("the other process did not answer in time")]
    TimedOut,
    /// The other process belongs to somebody else, the user of this number.
    #[error("the other process belongs to user {theirs}, this one to user {ours}")]
    Foreign {
        /// Its user.
        theirs: u32,
        /// The user of this process.
        ours: u32,
    },
    /// A message that is longer than allowed, or empty; or one to send with too many descriptors.
    #[error("a message of a length that is not allowed")]
    BadLength,
    /// A message with more descriptors than allowed, or than this process may have.
    #[error("a message with descriptors that did not all arrive")]
    DescriptorsLost,
    /// The path is no address of a socket.
    #[error(transparent)]
    Path(#[from] SocketFileError),
    /// The system's word.
    #[error(transparent)]
    System(#[from] io::Error),
}

impl From<Errno> for LinkError {
    fn from(error: Errno) -> Self {
        match error {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            Errno::CONNREFUSED | Errno::NOENT => Self::NobodyThere,
            Errno::MSGSIZE => Self::BadLength,
            Errno::AGAIN => Self::TimedOut,
            _ => Self::System(error.into()),
        }
    }
}

/// The process at the other end, as the system says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its number; `None` if it has none here (it lives in another namespace).
    pub pid: Option<u32>,
    /// Its user when it connected, or listened.
    pub user: u32,
}

/// A message as it came.
#[derive(Debug)]
pub struct Packet {
    /// At least one.
    pub bytes: Vec<u8>,
    /// At most [`LINK_DESCRIPTORS_MAX`].
    pub descriptors: Vec<OwnedFd>,
}

/// One end of a connection between two processes of one user.
#[derive(Debug)]
pub struct Link {
    /// By type a stream; the system calls are the same.
    socket: UnixStream,
    peer: Peer,
    buffer: Box<[u8]>,
}

impl Link {
    /// Connects to a process that listens at `path`. Inside of a runtime.
    ///
    /// # Errors
    /// [`LinkError::NobodyThere`] also for a file whose process has died, [`LinkError::TimedOut`]
    /// for one that accepts nobody, [`LinkError::Foreign`] for another user's.
    pub fn connect(path: &Path) -> Result<Self, LinkError> {
        let (socket, address) = socket_at(path, Type::SEQPACKET)?;
        // A Unix socket is connected at once, or the queue of the listener is full.
        socket.connect(&address).map_err(classified)?;
        Self::of(socket)
    }

    /// Takes a connection that was accepted. Inside of a runtime.
    ///
    /// # Errors
    /// [`LinkError::Foreign`], or the system's.
    pub fn accepted(socket: OwnedFd) -> Result<Self, LinkError> {
        Self::of(Socket::from(socket))
    }

    /// Two ends that are connected with each other. Inside of a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> Result<(Self, Self), LinkError> {
        let (one, other) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None)?;
        Ok((Self::of(one)?, Self::of(other)?))
    }

    fn of(socket: Socket) -> Result<Self, LinkError> {
        socket.set_nonblocking(true)?;
        let socket = UnixStream::from_std(StdStream::from(OwnedFd::from(socket)))?;
        let found = socket.peer_cred()?;
        let ours = geteuid().as_raw();
        if !is_admitted(found.uid(), ours) {
            return Err(LinkError::Foreign { theirs: found.uid(), ours });
        }
        let pid = found.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
        let buffer = vec![0; LINK_MESSAGE_BYTES_MAX + 1].into();
        Ok(Self { socket, peer: Peer { pid, user: found.uid() }, buffer })
    }

    /// The process at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Sends a message of at least one byte, and at most [`LINK_MESSAGE_BYTES_MAX`], with at most
    /// [`LINK_DESCRIPTORS_MAX`] descriptors, which stay with the caller.
    ///
    /// # Errors
    /// After any error nothing of it was sent.
    ///
    /// # Cancel safety
    /// A future that is dropped before it has ended has sent nothing.
    pub async fn send(
        &self,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(), LinkError> {
        let send = || send_once(&self.socket, bytes, descriptors);
        let sent = timeout(within, self.socket.async_io(Interest::WRITABLE, send)).await;
        sent.map_err(|_| LinkError::TimedOut)?.map_err(classified)
    }

    /// Receives a message. A peer that died is [`LinkError::Closed`] only after all that it had
    /// sent before was received.
    ///
    /// # Errors
    /// Whatever is wrong with the message; its descriptors are closed then.
    ///
    /// # Cancel safety
    /// A future that is dropped has received nothing.
    pub async fn receive(&mut self, within: Duration) -> Result<Packet, LinkError> {
        let Self { socket, buffer, .. } = self;
        let receive = || receive_once(socket, buffer);
        let received = timeout(within, socket.async_io(Interest::READABLE, receive)).await;
        received.map_err(|_| LinkError::TimedOut)?.map_err(classified)?
    }

    /// Sends a message at once, or not at all: [`LinkError::TimedOut`] if there is no room.
    ///
    /// # Errors
    /// After any error nothing of it was sent.
    pub fn send_now(&self, bytes: &[u8]) -> Result<(), LinkError> {
        send_once(&self.socket, bytes, &[]).map_err(classified)
    }

    /// The message that has come already; [`LinkError::TimedOut`] if none has.
    ///
    /// # Errors
    /// As of [`Link::receive`].
    pub fn receive_now(&mut self) -> Result<Packet, LinkError> {
        receive_once(&self.socket, &mut self.buffer).map_err(classified)?
    }

    /// Ends when there is a message to receive, or the connection's end.
    ///
    /// # Cancel safety
    /// Nothing is received.
    pub async fn disturbed(&self) {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let peek = || attempt(|| recv(&self.socket, &mut [0; 1], flags)).map(drop);
        // An error is a disturbance, too.
        let _ = self.socket.async_io(Interest::READABLE, peek).await;
    }

    /// Lets the peer send nothing any more: from here on its attempts fail, and
    /// [`Link::receive`] yields what it had sent until now, then [`LinkError::Closed`].
    ///
    /// # Errors
    /// The system's.
    pub fn close_for_peer(&self) -> Result<(), LinkError> {
        Ok(SockRef::from(&self.socket).shutdown(Shutdown::Read)?)
    }

    /// The socket itself, for tests that misuse it.
    #[cfg(test)]
    pub(super) fn raw(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.socket)
    }
}

/// Whether a process of the user `theirs` may talk to one of the user `ours`.
pub(super) fn is_admitted(theirs: u32, ours: u32) -> bool {
    theirs == ours || theirs == 0
}

/// An error of the system, with a name where it has one.
fn classified(error: io::Error) -> LinkError {
    match error.raw_os_error() {
        Some(code) => Errno::from_raw_os_error(code).into(),
        None => match error.kind() {
            io::ErrorKind::InvalidInput => LinkError::BadLength,
            _ => LinkError::System(error),
        },
    }
}

/// Again and again while signals interrupt it.
fn attempt<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

fn send_once(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let is_allowed = !bytes.is_empty()
        && bytes.len() <= LINK_MESSAGE_BYTES_MAX
        && descriptors.len() <= LINK_DESCRIPTORS_MAX;
    if !is_allowed {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LINK_DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        let has_room = control.push(SendAncillaryMessage::ScmRights(descriptors));
        assert!(has_room, "their number was checked");
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    attempt(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)).map(drop)
}

/// A peer that died with messages of ours unread is told first, and once; what it had sent follows.
fn receive_once(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<Result<Packet, LinkError>> {
    match receive_or_fail(socket, buffer) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
            receive_or_fail(socket, buffer)
        }
        received => received,
    }
}

fn receive_or_fail(
    socket: &UnixStream,
    buffer: &mut [u8],
) -> io::Result<Result<Packet, LinkError>> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(LINK_DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received =
        attempt(|| recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags))?;
    // Owned at once, so that every way out closes them.
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    let is_cut = received.flags.contains(ReturnFlags::CTRUNC);
    if is_cut || descriptors.len() > LINK_DESCRIPTORS_MAX {
        return Ok(Err(LinkError::DescriptorsLost));
    }
    if received.flags.contains(ReturnFlags::TRUNC) || received.bytes > LINK_MESSAGE_BYTES_MAX {
        return Ok(Err(LinkError::BadLength));
    }
    match received.bytes {
        // The end, or an empty message, which nobody sends who means well.
        0 if descriptors.is_empty() => Ok(Err(LinkError::Closed)),
        0 => Ok(Err(LinkError::BadLength)),
        length => Ok(Ok(Packet { bytes: buffer[..length].to_vec(), descriptors })),
    }
}
