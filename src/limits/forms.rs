//! Bounds of messages in the forms in which they are written.
//!
//! A part of [`super`], whose rules hold here: unit, what happens past it, what counts it.

/// Bytes that one of a message may take: a line end in an event stream is `data: ` and itself.
pub const FORM_FACTOR_MAX: usize = 7;
/// What an encoding adds to a message besides: names, position, header.
pub const FORM_EXTRA_BYTES_MAX: usize = 512;
/// The part of the budget that one message may take, one in so many; a larger one, of a process
/// with larger limits, is passed over, told as missing, and counted
/// (`wsbcast_unheld_messages_total`).
pub const HELD_MESSAGE_PART: usize = 4;
/// The part of the budget that all forms of a message may take, those in use here and in every
/// shard, one in so many: if they might take more, each is written while it is read, and the
/// message takes no more than its payload.
pub const FORMS_PART: usize = 2;
/// A larger message is written in no form at once, but while it is read, and is not compressed:
/// that takes 10 to 60 ms for each MiB, in which nobody else is served.
pub const FORM_WHOLE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that one of a message may take in JSON.
pub const JSON_FACTOR_MAX: usize = 6;
/// The same when the JSON is compressed: what takes more says the same again and again.
pub const COMPRESSED_JSON_FACTOR_MAX: usize = 2;
/// Of a message of a history so many times the payload is reckoned: its forms, never compressed.
pub const HISTORY_FORMS_FACTOR: usize = 16;
/// Of so much of a payload a piece of such a form is written; a multiple of three, for base64.
pub const LONG_PIECE_BYTES: usize = 12 * 1024;
/// Pieces are written until this is there: then it is offered to the client. One such window per
/// shard, at most one piece larger.
pub const LONG_WINDOW_BYTES_MIN: usize = 64 * 1024;

const _: () = assert!(HELD_MESSAGE_PART <= FORM_FACTOR_MAX); // A process holds its own messages.
const _: () = assert!(LONG_PIECE_BYTES.is_multiple_of(3));
