//! Plain data: the output that clients are still to get, for another hub that goes on with them.
//!
//! A client's logs become shared bytes: its cursor is where they begin, and all clients of a log
//! refer to the same ones, however far behind each is. Records have named fields, and get further
//! ones in later versions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{channel::ChannelName, position::Position};

/// The output of several clients of a hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubRecord {
    /// The channels that have a client; [`ClientOutput`] has their numbers.
    pub channels: Vec<ChannelRecord>,
    /// The bytes to which [`Piece::Shared`] refers.
    pub bodies: Vec<BodyRecord>,
}

/// A channel that has a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Its name.
    pub name: ChannelName,
    /// The position of its newest message; None: it is not known.
    #[serde(default)]
    pub position: Option<Position>,
}

/// Bytes that several clients are given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRecord {
    /// The bytes.
    pub bytes: Bytes,
    /// The places in them at which a frame begins or ends; empty for what is no log's.
    #[serde(default)]
    pub boundaries: Vec<u64>,
}

/// The output of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOutput {
    /// The channels that it stays on, in the order in which it came to them.
    #[serde(default)]
    pub channels: Vec<u32>,
    /// The bytes that it gets first.
    #[serde(default)]
    pub pieces: Vec<Piece>,
    /// So many of the first bytes end a frame that it has got in part, if these are its own.
    #[serde(default)]
    pub begun_bytes: usize,
    /// Its logs wait for the end of something else.
    #[serde(default)]
    pub is_held: bool,
    /// The bytes that it gets then.
    #[serde(default)]
    pub behind: Vec<BehindRecord>,
    /// Whether it is being closed.
    pub state: OutputState,
}

/// Bytes that follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Piece {
    /// The client's own.
    Own(Bytes),
    /// Some that others are given as well.
    Shared(SharedPiece),
}

/// A part of the bytes that several clients are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedPiece {
    /// The number in [`HubRecord::bodies`].
    pub body: u32,
    /// The first byte to be sent.
    pub from: usize,
    /// The end.
    pub to: usize,
    /// So many of the client's own bytes before it are the header of its frame.
    #[serde(default)]
    pub head: usize,
    /// It comes from a log.
    pub of_log: bool,
}

/// Bytes of a channel that a client gets once its logs no longer wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindRecord {
    /// The channel.
    pub channel: ChannelName,
    /// Its bytes.
    pub piece: SharedPiece,
}

/// How far a client's close has got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OutputState {
    /// It is not being closed.
    Open,
    /// This Close frame follows all that is recorded.
    LogsThenClose(Bytes),
    /// The Close frame is the last of the pieces.
    Close,
    /// It was sent, or nothing can be.
    Over,
}
