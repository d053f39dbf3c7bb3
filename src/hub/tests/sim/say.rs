//! The output of the simulation for its clients individually: for one alone, or shared by several.

use bytes::Bytes;

use super::{Finish, Pipe, Simulation, frame};
use crate::{
    channel::ChannelName,
    hub::{Encoding, Hub, Key, Source},
    position::Position,
    ws::{Kind, frame::data_header},
};

impl Simulation {
    /// Control frames, pongs and own output.
    pub(super) fn say(&mut self) {
        let Some(client) = self.pick() else { return };
        let (number, message) = self.shared_message();
        let client = &mut self.clients[client];
        self.next_id += 1;
        let id = self.next_id.to_be_bytes();
        let frames = client.queued.len() + client.controls.len() + client.pongs.len();
        let may_be_too_much = client.unread_bytes() + 10 * frames > self.backlog_bytes;
        // Nothing is sent after a Close frame; before it, everything.
        let heard = match &client.close {
            None => !client.failed,
            Some(close) if close.finish == Finish::Frame || client.closed => false,
            Some(close) => {
                let mut places = client.next.iter().zip(close.published);
                let logs_wait = places.any(|(next, end)| next.is_some_and(|next| next < end));
                if !logs_wait || client.hurried || self.tight_backlog || self.tight_budget {
                    return; // The Close frame may have been begun.
                }
                !client.failed
            }
        };
        match self.random.u8(0..4) {
            0 => {
                self.hub.control(client.key, &frame(0x9, &id));
                if heard {
                    client.controls.push_back(id.to_vec());
                }
            }
            1 => {
                self.hub.pong(client.key, &frame(0xa, &id));
                if heard {
                    client.pongs.push(id.to_vec());
                }
            }
            own_or_shared => {
                if own_or_shared == 2 {
                    self.hub.queue(client.key, &[&frame(0x1, &id)[..2], &id]);
                    if heard {
                        client.queued.push_back(id.to_vec());
                    }
                } else {
                    give(&mut self.hub, client.key, number, &message);
                    if heard {
                        client.queued.push_back(message);
                    }
                }
                if !self.tight_budget && !may_be_too_much {
                    // Another operation comes before the events are taken, which writes it.
                    self.step();
                }
            }
        }
    }

    /// A message of a history that is soon forgotten: a few messages are given to many clients.
    fn shared_message(&mut self) -> (u64, Vec<u8>) {
        let number = u64::from(self.next_id / 8) * 8 + self.random.u64(0..4);
        let size = [50, 300, 5_000, 70_000][(number % 4) as usize];
        (number, vec![b'a' + (number % 26) as u8; size])
    }
}

/// Gives a client message `number`, with its frame's header or the whole frame shared.
fn give(hub: &mut Hub<Pipe>, key: Key, number: u64, payload: &[u8]) {
    let position = Position { epoch: "h".into(), offset: number };
    let channel = ChannelName::default_channel();
    let header = data_header(Kind::Text, payload.len());
    if number.is_multiple_of(2) {
        let source = Source::Message(channel, position, Encoding::Plain, 0);
        hub.queue_shared(key, header.as_ref(), source, || Bytes::copy_from_slice(payload));
    } else {
        let source = Source::Message(channel, position, Encoding::V1, 0);
        let whole = || Bytes::from([header.as_ref(), payload].concat());
        hub.queue_shared(key, &[], source, whole);
    }
}
