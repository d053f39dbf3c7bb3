//! The trait for the destination of a client's bytes.
//!
//! The hub does no IO itself: a socket, or a test's pipe, is handed in for each client. An outlet
//! must not block; when it is full it says so, and its owner calls [`super::Hub::writable`] later.

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
