//! A gap, in each encoding that can express it.

use crate::{
    broker::Missed,
    channel::ChannelName,
    conn::write::encodings,
    hub::{Encode, Encoding},
    ws::{
        Kind,
        frame::{self, DataHeader},
    },
};

/// A gap as it is written into the logs of clients that can be told.
pub(in crate::conn) struct Notice<'a> {
    channel: &'a ChannelName,
    missed: &'a Missed,
    header: Option<DataHeader>,
    text: Vec<u8>,
}

impl<'a> Notice<'a> {
    pub(in crate::conn) fn new(channel: &'a ChannelName, missed: &'a Missed) -> Self {
        Self { channel, missed, header: None, text: Vec::new() }
    }
}

impl Encode for Notice<'_> {
    fn encode(&mut self, encoding: Encoding) -> [&[u8]; 2] {
        match encoding {
            Encoding::Plain | Encoding::Deflate(_) => return [&[], &[]],
            Encoding::V1 | Encoding::V1Deflate(_) => {
                encodings::v1_gap(self.channel, self.missed, &mut self.text);
                self.header = Some(frame::data_header(Kind::Text, self.text.len()));
            }
            Encoding::Sse => {
                encodings::sse_gap(self.channel, self.missed, &mut self.text);
                self.header = None;
            }
        }
        [self.header.as_ref().map_or(&[], AsRef::as_ref), &self.text]
    }
}
