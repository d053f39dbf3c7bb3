//! The results of passes: how much was delivered, and whether there is more to do.
//!
//! A pass is cut into slices, so its caller has to know whether to call again, and whether
//! everything that was published before has been offered to every client. Plain values.

/// The result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// There is more to do: call again.
    pub more: bool,
    /// Every client has been visited for everything published before the call in which a pass last
    /// set this flag (or before the first call). It is also set when the work never ends.
    pub swept: bool,
    /// Messages taken whole since the last report, one per client and message; includes those
    /// written in between by [`super::Hub::writable`].
    pub deliveries: u64,
    /// Bytes of messages taken since the last report.
    pub bytes: u64,
}
