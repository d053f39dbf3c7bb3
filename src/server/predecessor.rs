//! The old process, as a new one hears of it first: plain data.

#[cfg(target_os = "linux")]
use std::path::PathBuf;

#[cfg(target_os = "linux")]
use serde::{Deserialize, Serialize};

#[cfg(target_os = "linux")]
use super::unix_socket::UnixSocket;
#[cfg(target_os = "linux")]
use crate::socket_file::SocketFileRecord;

/// All that a new process needs to build itself. The descriptors of the listeners come with it, in
/// their order.
#[cfg(target_os = "linux")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PredecessorRecord {
    /// The old process' clock.
    pub(super) clock_ms: u64,
    /// Its listening sockets.
    pub(super) listeners: Vec<ListenerRecord>,
    /// Its shards.
    pub(super) shards: u32,
    /// Whether there is a Redis.
    pub(super) has_redis: bool,
    /// Whether it may stay for a while, with clients that can't change process.
    #[serde(default)]
    pub(super) may_stay: bool,
}

/// A listening socket.
#[cfg(target_os = "linux")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ListenerRecord {
    pub(super) kind: ListenerKind,
    /// Of a Unix socket, if it is the process' to remove it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) file: Option<SocketFileRecord>,
}

/// The use of a listening socket.
#[cfg(target_os = "linux")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ListenerKind {
    /// Clients.
    Public,
    /// Clients that speak TLS.
    Tls,
    /// The admin routes.
    Admin,
    /// Clients, by a Unix socket.
    Unix,
    /// The next upgrade.
    Control,
}

#[cfg(target_os = "linux")]
impl ListenerKind {
    /// As [`super::NamedListener::name`].
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Tls => "tls",
            Self::Admin => "admin",
            Self::Unix => "unix",
            Self::Control => "control",
        }
    }
}

/// The old process that a new one takes over from.
#[derive(Debug)]
pub struct Predecessor {
    /// Its clock.
    pub(super) clock_ms: u64,
    /// The files of its Unix sockets, by the paths that these are bound to.
    #[cfg(target_os = "linux")]
    pub(super) files: Vec<(PathBuf, SocketFileRecord)>,
    /// It may stay for a while, and then follows the new one.
    pub(super) follows: bool,
}

#[cfg(target_os = "linux")]
impl Predecessor {
    /// Gives sockets of the old process their files.
    pub(super) fn give_files(&self, sockets: &mut [UnixSocket]) {
        for socket in sockets {
            let file = self.files.iter().find(|(bound, _)| bound == socket.path());
            if let Some((_, file)) = file {
                socket.take_file(file.clone());
            }
        }
    }
}
