//! The naive model: what was published, and what one client may and must hear of it.

use std::{cell::RefCell, collections::HashMap, net::TcpStream, rc::Rc, sync::Arc};

use serde_json::Value;

use crate::{
    broker::Position,
    http::{Admission, NotAdmitted},
};

/// The messages published on a channel, by epoch: the message of offset n is at n - 1.
#[derive(Default)]
pub(super) struct Published {
    pub(super) by_epoch: HashMap<String, Vec<u64>>,
    /// The newest message's epoch and offset; None before the first.
    pub(super) last: Option<(String, u64)>,
}

/// A client of one channel, from its handshake to its end.
pub(super) struct Client {
    pub(super) shard: usize,
    pub(super) channel: usize,
    pub(super) admission: Rc<RefCell<Option<Result<Admission, NotAdmitted>>>>,
    pub(super) peer: Option<TcpStream>,
    pub(super) input: Vec<u8>,
    /// Everything up to here was received, or reported missing.
    pub(super) at: Option<Position>,
    /// It asked for what follows this one.
    pub(super) since: Option<Position>,
}

impl Client {
    /// Hears one frame; true if it tells a gap.
    pub(super) fn hear(&mut self, json: &Value, published: &[Published]) -> bool {
        let offset = |name: &str| json[name].as_u64();
        let at = self.at.clone().expect("it is connected");
        match json["type"].as_str().expect("every frame has a type") {
            "message" => {
                let epoch = json["epoch"].as_str().expect("nothing is local here");
                let offset = offset("offset").expect("every message has one");
                let follows = if *at.epoch == *epoch { at.offset + 1 } else { 1 };
                assert_eq!(offset, follows, "after {at}, in epoch {epoch}");
                let id = published[self.channel].by_epoch[epoch][offset as usize - 1];
                assert_eq!(json["data"], id.to_string(), "the message of that position");
                self.at = Some(Position { epoch: epoch.into(), offset });
                false
            }
            "gap" => {
                let (from, to) = (offset("from").unwrap(), offset("to").unwrap());
                let epoch: Arc<str> = json["epoch"].as_str().expect("it is known").into();
                let follows = if at.epoch == epoch { at.offset + 1 } else { 1 };
                assert_eq!(from, follows, "{json} after {at}");
                self.at = Some(Position { epoch, offset: to });
                true
            }
            _ => false,
        }
    }
}

/// The text of the next whole frame.
pub(super) fn take_text(input: &mut Vec<u8>) -> Option<String> {
    let (&first, &length) = (input.first()?, input.get(1)?);
    assert_eq!(first, 0x81, "a whole text frame");
    let (head, length) = match length {
        126 => (4, usize::from(u16::from_be_bytes([*input.get(2)?, *input.get(3)?]))),
        short => (2, usize::from(short)),
    };
    if input.len() < head + length {
        return None;
    }
    let frame: Vec<u8> = input.drain(..head + length).collect();
    Some(String::from_utf8(frame[head..].to_vec()).expect("text is UTF-8"))
}
