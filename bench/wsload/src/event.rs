//! What a client finds in what its socket gave, in whatever form.

use crate::stamp::Stamp;

/// What a read contained.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A message's last byte has arrived.
    Message {
        /// What it says of itself; none: it is nobody's of this program.
        stamp: Option<Stamp>,
        /// Of the payload alone, whatever the form.
        payload_bytes: u64,
    },
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// The server closes, with this code.
    Close(Option<u16>),
}
