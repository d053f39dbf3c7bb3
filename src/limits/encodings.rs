//! Bounds of messages in their encodings.
//!
//! Part of [`limits`](super): an encoded message may take several times its payload.

/// Bytes that a byte of a message may take: a line end in an event stream is `data: ` and itself.
pub const ENCODED_FACTOR_MAX: usize = 7;
/// An encoding's addition to a message besides: names, position, header.
pub const ENCODED_EXTRA_BYTES_MAX: usize = 512;
/// The part of the budget that one message may take, one in so many; a larger one, from a process
/// with larger limits, is skipped, reported as missing, and counted
/// (`wsbcast_unheld_messages_total`).
pub const HELD_MESSAGE_PART: usize = 4;
/// The part of the budget that all encodings of a message may take, those in use here and in every
/// shard, one in so many: if they might take more, each is written while it is read, and the
/// message takes no more than its payload.
pub const ENCODINGS_PART: usize = 2;
/// A larger message is not encoded at once but while it is read, and is not compressed: that takes
/// 10 to 60 ms per MiB, in which no client would be served.
pub const ENCODED_WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a byte of a message may take in JSON.
pub const JSON_FACTOR_MAX: usize = 6;
/// The same when the JSON is compressed: text that takes more repeats itself.
pub const COMPRESSED_JSON_FACTOR_MAX: usize = 2;
/// The assumed size of all uncompressed encodings of a history's message, as a multiple of its
/// payload.
pub const HISTORY_ENCODINGS_FACTOR: usize = 16;
/// The payload bytes from which one piece of such an encoding is written; a multiple of three, for
/// base64.
pub const LONG_PIECE_BYTES: usize = 12 * 1024;
/// The size up to which pieces are written before they are offered to the client. One such window
/// per shard, larger by at most one piece.
pub const LONG_WINDOW_BYTES_MIN: usize = 64 * 1024;

const _: () = assert!(HELD_MESSAGE_PART <= ENCODED_FACTOR_MAX); // A process holds its own messages.
const _: () = assert!(LONG_PIECE_BYTES.is_multiple_of(3));
