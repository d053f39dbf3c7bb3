//! Clients are recorded, so that another hub can go on with them.
//!
//! The other hub's logs begin empty, at the positions that the channels have reached, and a client
//! gets first what is recorded here. Bytes that were begun are copied, never written anew.
//! Recording changes nothing: if the other hub is not to go on after all, this one does.

use std::{collections::HashMap, iter};

use bytes::Bytes;

use super::{
    Hub, Outlet,
    bytelog::ByteLog,
    clients::{Client, Key, WritingState},
    number::small,
    outbox::{Outbox, Waiting},
    record::{
        BehindRecord, BodyRecord, ChannelRecord, ClientOutput, HubRecord, OutputState, Piece,
        SharedPiece,
    },
    shares::Body,
};
use crate::channel::ChannelName;

/// The numbers of what several clients refer to.
struct Recording {
    record: HubRecord,
    channels: HashMap<ChannelName, u32>,
    logs: HashMap<u32, u32>,
    shares: HashMap<u32, u32>,
}

impl Recording {
    fn add_body(&mut self, bytes: Bytes, boundaries: Vec<u64>) -> u32 {
        self.record.bodies.push(BodyRecord { bytes, boundaries });
        small(self.record.bodies.len() - 1)
    }
}

impl<O: Outlet> Hub<O> {
    /// Begins all closes of clients that messages were lost to, which passes would begin. The
    /// events of that are to be taken before [`Hub::record`].
    pub fn begin_partings(&mut self) {
        while !self.partings.is_empty() {
            self.close_parting(&mut || true);
        }
    }

    /// Records the output that `keys` are still to get; in their order, without those that have
    /// left. No parting may be due.
    pub fn record(&self, keys: &[Key]) -> (HubRecord, Vec<(Key, ClientOutput)>) {
        debug_assert!(self.partings.is_empty(), "begin_partings comes first");
        let mut recording = Recording {
            record: HubRecord::default(),
            channels: HashMap::new(),
            logs: HashMap::new(),
            shares: HashMap::new(),
        };
        let mut outputs = Vec::with_capacity(keys.len());
        for &key in keys {
            if let Some(index) = self.clients.find(key) {
                outputs.push((key, self.record_client(key, index, &mut recording)));
            }
        }
        (recording.record, outputs)
    }

    fn record_client(&self, key: Key, index: u32, recording: &mut Recording) -> ClientOutput {
        let client = self.clients.get(index);
        let mut output = ClientOutput {
            channels: Vec::new(),
            pieces: Vec::new(),
            begun_bytes: 0,
            is_held: client.held,
            behind: Vec::new(),
            state: match client.state {
                WritingState::Open => OutputState::Open,
                WritingState::LogsThenClose => {
                    let ending = client.outbox.as_ref().and_then(|it| it.ending.as_ref());
                    let frame = ending.map_or(&[][..], |ending| &ending.frame);
                    OutputState::LogsThenClose(Bytes::copy_from_slice(frame))
                }
                WritingState::Close => OutputState::Close,
                WritingState::Over => OutputState::Over,
            },
        };
        if client.state == WritingState::Open {
            for place in client.places.as_slice() {
                output.channels.push(self.record_channel(place.log, recording));
            }
        }
        let begun_to =
            client.begun().map(|position| self.record_begun(client, position, recording));
        output.pieces.extend(begun_to.iter().map(|(piece, _)| Piece::Shared(*piece)));
        if let Some(outbox) = &client.outbox {
            self.record_outbox(outbox, &mut output, recording);
        }
        if client.state != WritingState::Close {
            let begun_to = begun_to.map(|(_, end)| end);
            self.record_logs(key, client, begun_to, &mut output, recording);
        }
        output
    }

    fn record_channel(&self, log: u32, recording: &mut Recording) -> u32 {
        let log = &self.logs[log as usize];
        let channels = &mut recording.record.channels;
        *recording.channels.entry(log.name.clone()).or_insert_with(|| {
            channels.push(ChannelRecord { name: log.name.clone(), position: log.last.clone() });
            small(channels.len() - 1)
        })
    }

    /// The rest of the frame that a client has begun, and where it ends in its log.
    fn record_begun(
        &self,
        client: &Client<O>,
        position: usize,
        recording: &mut Recording,
    ) -> (SharedPiece, u64) {
        let place = client.places.as_slice()[position];
        let log = &self.logs[place.log as usize];
        let cursor = log.subscriber_list.get(place.index as usize).cursor;
        let end = log.bytes.boundary_from(cursor);
        (self.record_log(place.log, cursor, end, recording), end)
    }

    /// The bytes of its logs that a client has not got.
    fn record_logs(
        &self,
        key: Key,
        client: &Client<O>,
        begun_to: Option<u64>,
        output: &mut ClientOutput,
        recording: &mut Recording,
    ) {
        for behind in self.behind.get(&key).into_iter().flatten() {
            let piece = self.record_share(behind.share, behind.from, behind.to, 0, true, recording);
            output.behind.push(BehindRecord { channel: behind.channel.clone(), piece });
        }
        let ending = client.outbox.as_ref().and_then(|outbox| outbox.ending.as_ref());
        for (position, place) in client.places.as_slice().iter().enumerate() {
            let log = &self.logs[place.log as usize];
            let reader = log.subscriber_list.get(place.index as usize);
            let begun_to = begun_to.filter(|_| client.begun() == Some(position));
            let from = begun_to.unwrap_or(reader.cursor);
            let to = ending.map_or_else(|| log.due(reader), |ending| ending.heads[position]);
            if from >= to {
                continue;
            }
            let piece = self.record_log(place.log, from, to, recording);
            if client.held {
                output.behind.push(BehindRecord { channel: log.name.clone(), piece });
            } else {
                output.pieces.push(Piece::Shared(piece));
            }
        }
    }

    fn record_log(
        &self,
        number: u32,
        from: u64,
        to: u64,
        recording: &mut Recording,
    ) -> SharedPiece {
        let bytes = &self.logs[number as usize].bytes;
        let body = match recording.logs.get(&number) {
            Some(body) => *body,
            None => {
                let (whole, boundaries) = whole(bytes);
                let body = recording.add_body(whole, boundaries);
                recording.logs.insert(number, body);
                body
            }
        };
        let place = |offset: u64| usize::try_from(offset - bytes.tail()).expect("it is in memory");
        SharedPiece { body, from: place(from), to: place(to), head: 0, of_log: true }
    }

    fn record_share(
        &self,
        share: u32,
        from: usize,
        to: usize,
        head: usize,
        of_log: bool,
        recording: &mut Recording,
    ) -> SharedPiece {
        let body = match recording.shares.get(&share) {
            Some(body) => *body,
            None => {
                let (bytes, boundaries) = match self.shares.body(share) {
                    Body::Bytes(bytes) => (bytes.clone(), whole_frame(bytes.len(), of_log)),
                    Body::Frames(frames) => (frames.bytes().clone(), frames.boundaries().to_vec()),
                    Body::Long(long) => {
                        let mut bytes = Vec::with_capacity(long.len());
                        long.copy(0, long.len() as u64, &mut bytes);
                        (bytes.into(), whole_frame(long.len(), of_log))
                    }
                };
                let body = recording.add_body(bytes, boundaries);
                recording.shares.insert(share, body);
                body
            }
        };
        SharedPiece { body, from, to, head, of_log }
    }

    fn record_outbox(&self, outbox: &Outbox, output: &mut ClientOutput, recording: &mut Recording) {
        output.begun_bytes = outbox.begun_bytes();
        for waiting in outbox.waiting() {
            let piece = match waiting {
                Waiting::OfLog(bytes) => {
                    let to = bytes.len();
                    let bytes = Bytes::copy_from_slice(bytes);
                    let body = recording.add_body(bytes, vec![to as u64]);
                    Piece::Shared(SharedPiece { body, from: 0, to, head: 0, of_log: true })
                }
                Waiting::Own(bytes) => Piece::Own(Bytes::copy_from_slice(bytes)),
                Waiting::Shared { share, from, to, head, of_log } => {
                    let piece = self.record_share(share, from, to, head, of_log, recording);
                    Piece::Shared(piece)
                }
            };
            output.pieces.push(piece);
        }
    }
}

/// All bytes of a log, and the boundaries of its frames among them.
fn whole(log: &ByteLog) -> (Bytes, Vec<u64>) {
    let (tail, head) = (log.tail(), log.head());
    let next = |after: &u64| (*after < head).then(|| log.boundary_from(*after + 1));
    let first = log.boundary_from(tail);
    let boundaries = iter::successors(Some(first), next).map(|place| place - tail).collect();
    (log.copy(tail, head).into(), boundaries)
}

/// The boundaries of one frame, of which `sent` bytes may be out: its beginning does not count.
fn whole_frame(length: usize, of_log: bool) -> Vec<u64> {
    if of_log { vec![length as u64] } else { Vec::new() }
}
