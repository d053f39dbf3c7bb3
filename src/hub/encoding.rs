//! The forms in which logs hold messages, and who writes them.
//!
//! A channel has a log for each encoding that some client here uses, and a client is a cursor
//! into the one of its own. The hub only tells encodings apart: what a frame of one looks like is
//! the business of whoever publishes, which is asked once per encoding in use and message.

use crate::ws::{
    Kind,
    extension::WindowBits,
    frame::{self, Header},
};

/// How the messages in a log are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// The payload as it was published.
    Plain,
    /// Compressed by permessage-deflate with this window, where that pays.
    Deflate(WindowBits),
}

/// A message that can be written in every encoding.
pub trait Encode {
    /// The whole message in `encoding`, in two parts that follow each other. Asked for at most
    /// once per encoding.
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2];
}

/// A message that is the same in every encoding.
#[derive(Clone, Copy, Debug)]
pub struct Unchanged<'a> {
    header: Header,
    payload: &'a [u8],
}

impl<'a> Unchanged<'a> {
    /// The payload in one frame.
    #[must_use]
    pub fn new(kind: Kind, payload: &'a [u8]) -> Self {
        Self { header: frame::data_header(kind, payload.len()), payload }
    }
}

impl Encode for Unchanged<'_> {
    fn encode(&mut self, _: Encoding) -> [&[u8]; 2] {
        [self.header.as_ref(), self.payload]
    }
}
