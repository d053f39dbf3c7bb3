//! Bounds of a hand-over between two processes, and of the records in it.
//!
//! Part of [`limits`](super): past one of them the hand-over ends, and the old process goes on.

/// A single record; past it nothing of it is read. It bounds what a peer can make us read in one
/// piece; what is large is written as many records.
pub const RECORD_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Lists and maps in each other in a record, also in what is skipped.
pub const RECORD_DEPTH_MAX: usize = 32;
