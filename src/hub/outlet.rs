//! The trait for the destination of a client's bytes.
//!
//! The hub does no IO itself: a socket, or a test's pipe, is handed in for each client. An outlet
//! must not block; when it is full it says so, and its owner calls [`super::Hub::writable`] later.

use std::{
    fmt,
    io::{self, IoSlice},
    sync::Arc,
};

use super::Budget;

/// A destination that takes bytes without blocking: a non-blocking socket.
pub trait Outlet {
    /// The part that all outlets of one hub share, so that each of them is small.
    type Shared: fmt::Debug;

    /// Makes that part, once for a hub; its memory is charged to `budget`.
    fn shared(budget: &Arc<Budget>) -> Self::Shared;

    /// Takes some or all of the bytes in `slices`, in order; returns the number taken. The others
    /// are offered again, from there on, unless a frame begins with them of which none was taken.
    ///
    /// # Errors
    /// `WouldBlock` when it is full. `Interrupted` is tried again at once; after any other error
    /// (and after `Ok(0)`) nothing is written to it any more.
    fn write_vectored(
        &mut self,
        shared: &mut Self::Shared,
        slices: &[IoSlice<'_>],
    ) -> io::Result<usize>;
}
