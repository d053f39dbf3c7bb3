//! The trait for the destination of a client's bytes.

use std::io::{self, IoSlice};

/// A destination that takes bytes without blocking: a non-blocking socket.
pub trait Outlet {
    /// Takes some or all of the bytes in `slices`, in order; returns the number taken.
    ///
    /// # Errors
    /// `WouldBlock` when it is full. `Interrupted` is tried again at once; after any other error
    /// (and after `Ok(0)`) nothing is written to it any more.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}
