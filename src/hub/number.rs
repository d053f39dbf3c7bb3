//! The numbers of logs, clients and entries: 32 bits each.
//!
//! An index of four bytes keeps a client and its subscriptions small. The conversion is here once,
//! so that the assumption behind it is stated once.

/// Indexes are kept in 32 bits.
pub(super) fn small(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 of anything in one hub")
}
