//! What passes have done, and whether there is more to do.

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// There is more to do: call again.
    pub more: bool,
    /// Everyone has been visited for all that was published before the call in which a pass last
    /// said so (or which was the first): also when it never runs out of work.
    pub swept: bool,
    /// Messages handed over whole since the last report, one per client and message; also those
    /// written in between by [`super::Hub::writable`].
    pub deliveries: u64,
    /// Bytes of messages handed over since the last report.
    pub bytes: u64,
}
