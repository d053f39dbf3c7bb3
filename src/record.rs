//! Records: what one process writes for another, of an earlier or a later version.
//!
//! `MessagePack` with the names of the fields in it, so that a record explains itself. A reader
//! skips fields that it does not know; a field that an earlier version did not write has a
//! `#[serde(default)]`. Rules for the types, so that both go on working:
//! - A field keeps its name and its meaning; one that means something else has another name.
//! - Variants of an enum hold nothing, or one struct: only that can get further fields. A variant
//!   that a reader does not know is an error, or the one marked `#[serde(other)]`.
//! - Times are relative ("ago", "left"), in milliseconds: clocks of two processes differ.
//! - Bytes are [`bytes::Bytes`], or `Vec<u8>` with `#[serde(with = "serde_bytes")]`; any other
//!   `Vec<u8>` is written as a list of numbers.
//!
//! A recording of each kind stays in `tests/recordings`, and every later version reads it.

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::limits::{RECORD_BYTES_MAX, RECORD_DEPTH_MAX};

/// Bytes that are no record of the type that was asked for.
#[derive(Debug, Error)]
pub enum BadRecord {
    /// It is longer than any record may be; the number is its length in bytes.
    #[error("a record of {0} bytes, at most {RECORD_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It is another type's, damaged, cut off, or nested too deep.
    #[error("a record that cannot be read: {0}")]
    Unreadable(#[from] rmp_serde::decode::Error),
    /// The record ended before its bytes; the number is how many are left.
    #[error("a record with {0} bytes too many")]
    Surplus(usize),
}

/// Writes a record.
///
/// # Panics
/// If the type cannot be written, which only its own code can cause: a sequence of more than 2³²
/// entries, or a `Serialize` that fails.
#[must_use]
pub fn to_bytes<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("types of records can be written")
}

/// Reads a record, which has to be all of `bytes`. No input makes it panic, nest deeper than
/// [`RECORD_DEPTH_MAX`], or reserve more memory than `bytes` can fill.
///
/// # Errors
/// [`BadRecord`], in which nothing of the record is told but where it went wrong.
pub fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, BadRecord> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(BadRecord::TooLong(bytes.len()));
    }
    let mut rest = bytes;
    let mut reader = rmp_serde::Deserializer::new(&mut rest);
    reader.set_max_depth(RECORD_DEPTH_MAX);
    let value = T::deserialize(&mut reader)?;
    match rest.len() {
        0 => Ok(value),
        surplus => Err(BadRecord::Surplus(surplus)),
    }
}

#[cfg(test)]
pub(crate) mod recordings;
#[cfg(test)]
mod tests;
