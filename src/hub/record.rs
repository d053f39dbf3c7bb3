//! Plain data: the output that clients are still to get, for another hub that goes on with them.
//!
//! A client's logs become bodies, as far as anybody needs them: all clients of a log refer to the
//! same one, however far behind each is. A body is written part by part, since it may be as long as
//! all memory allowed; a long message is written as its payload, once for all its encodings, and
//! what is around it. Records have named fields, and get further ones in later versions.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{channel::ChannelName, position::Position};

/// A part of all that several clients of a hub refer to. The parts follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubRecord {
    /// The channels that have a client; [`ClientOutput`] has their numbers.
    #[serde(default)]
    pub channels: Vec<ChannelRecord>,
    /// Parts of payloads to which [`LongRecord`] refers, of any hub of the process.
    #[serde(default)]
    pub payloads: Vec<PayloadRecord>,
    /// Parts of the bytes to which [`Piece::Shared`] refers.
    #[serde(default)]
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

/// A part of the payload of a long message. Its parts follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadRecord {
    /// The number of the payload in its process.
    pub number: u32,
    /// The next bytes.
    pub bytes: Bytes,
}

/// A part of the bytes that several clients are given. Its parts follow each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyRecord {
    /// The number of the body in its hub.
    pub number: u32,
    /// In the first part: so many bytes before it, which nobody needs, are counted as well.
    #[serde(default)]
    pub skipped: u64,
    /// The next bytes, if they are no long frame; at most [`CHUNK_BYTES_MAX`] of them.
    ///
    /// [`CHUNK_BYTES_MAX`]: crate::limits::CHUNK_BYTES_MAX
    #[serde(default)]
    pub bytes: Bytes,
    /// The places in them at which a log's frame begins.
    #[serde(default)]
    pub starts: Vec<u16>,
    /// A whole frame instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongRecord>,
}

/// A message that is written while it is read: its payload in some form, and what is around it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongRecord {
    /// The bytes before the payload.
    pub opening: Bytes,
    /// The number of the payload in its process.
    pub payload: u32,
    /// How the payload is written.
    pub form: PayloadForm,
    /// The bytes after it.
    pub closing: Bytes,
    /// All bytes.
    pub length: u64,
}

/// How a payload is written. Each word means the same bytes in all versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PayloadForm {
    /// Its bytes.
    AsItIs,
    /// Within a string of JSON: what must be escaped by RFC 8259 is, in its short form if there is
    /// one, in small hexadecimal digits otherwise.
    Escaped,
    /// Base64 with padding.
    Base64,
    /// As `data:` lines of an event stream, the first of which has begun.
    Lines,
}

/// The output of one client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientOutput {
    /// The channels that it stays on, in the order in which it came to them.
    #[serde(default)]
    pub channels: Vec<u32>,
    /// The end of a log's frame that it has got in part: it comes first.
    #[serde(default)]
    pub carried: Bytes,
    /// The bytes that it gets then.
    #[serde(default)]
    pub pieces: Vec<Piece>,
    /// So many of the first of them end a frame that it has got in part, if they are its own.
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
    /// The number of the body.
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
