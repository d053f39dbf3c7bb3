//! Clients are recorded, so that another hub can go on with them.
//!
//! The other hub's logs begin empty, at the positions that the channels have reached, and a client
//! gets first what is recorded here. Bytes that were begun are copied, never written anew.
//! A look at all clients tells what they need; then it is written piece by piece, each thing once,
//! and of a log nothing before the last of them. Recording changes nothing: if the other hub is not
//! to go on after all, this one does. Nothing of the hub may change meanwhile.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::{
    Hub, Outlet,
    clients::{Client, Key, WritingState},
    due::{Due, Origin, SharedDue},
    long::Long,
    moved::RecordedPart,
    number::small,
    payloads::LongPayloads,
    record::{
        BehindRecord, BodyRecord, ChannelRecord, ClientOutput, HubRecord, LongRecord, OutputState,
        PayloadRecord, Piece, SharedPiece,
    },
    shares::Body,
};
use crate::{
    channel::ChannelName,
    limits::{CHUNK_BYTES_MAX, HANDOVER_CHUNK_BYTES_MAX, HANDOVER_ITEM_COST_BYTES},
};

/// The data that the clients of a hub share, as far as it was recorded.
#[derive(Debug)]
pub struct HubRecording {
    payloads: Arc<LongPayloads>,
    /// The numbers of channels, and a log of each in the order of the numbers.
    channels: HashMap<ChannelName, u32>,
    logs: Vec<u32>,
    /// The numbers of bodies.
    numbers: HashMap<Origin, u32>,
    bodies: Vec<Span>,
    next_channel: usize,
    next_body: usize,
    /// The payload that is being written, its number, and how much of it was.
    payload: Option<(u32, Bytes, usize)>,
}

/// Bytes that are recorded.
#[derive(Clone, Copy, Debug)]
struct Span {
    origin: Origin,
    from: u64,
    to: u64,
    /// All before it was written.
    at: u64,
}

impl Span {
    /// The offset from which bytes are counted. Of a share, which may be a single frame, it is the
    /// first one: a client that has got some of it is amid that frame.
    fn base(&self) -> u64 {
        match self.origin {
            Origin::Log(_) => self.from,
            Origin::Share(_) => 0,
        }
    }
}

impl HubRecording {
    /// The next piece; None at the end. It has about [`HANDOVER_CHUNK_BYTES_MAX`].
    pub fn next<O: Outlet>(&mut self, hub: &Hub<O>) -> Option<HubRecord> {
        let mut record = HubRecord::default();
        let mut room = HANDOVER_CHUNK_BYTES_MAX;
        while room > 0 && self.step(hub, &mut record, &mut room) {}
        (record != HubRecord::default()).then_some(record)
    }

    /// False: there is nothing more.
    fn step<O: Outlet>(&mut self, hub: &Hub<O>, into: &mut HubRecord, room: &mut usize) -> bool {
        if let Some(&log) = self.logs.get(self.next_channel) {
            let log = &hub.logs[log as usize];
            into.channels
                .push(ChannelRecord { name: log.name.clone(), position: log.last.clone() });
            self.next_channel += 1;
            *room = room.saturating_sub(HANDOVER_ITEM_COST_BYTES);
            return true;
        }
        if let Some((number, payload, written)) = &mut self.payload {
            let to = payload.len().min(*written + *room);
            into.payloads
                .push(PayloadRecord { number: *number, bytes: payload.slice(*written..to) });
            *room -= to - *written;
            *written = to;
            if to == payload.len() {
                self.payload = None;
            }
            return true;
        }
        let number = self.next_body;
        let Some(span) = self.bodies.get_mut(number) else { return false };
        if span.at >= span.to {
            self.next_body += 1;
            return true;
        }
        let RecordedPart { bytes, starts, long } = hub.recorded_part(span.origin, span.at);
        let left = usize::try_from(span.to - span.at).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(left).min(CHUNK_BYTES_MAX)];
        let starts: Vec<u16> = starts
            .into_iter()
            .filter(|start| long.is_some() || usize::from(*start) < bytes.len())
            .collect();
        let skipped = if span.at == span.from { span.from - span.base() } else { 0 };
        span.at += long.map_or(bytes.len(), Long::len) as u64;
        *room = room.saturating_sub(bytes.len() + 2 * starts.len() + 1);
        let long = long.map(|long| self.record_long(long));
        let bytes = Bytes::copy_from_slice(bytes);
        into.bodies.push(BodyRecord { number: small(number), skipped, bytes, starts, long });
        true
    }

    fn record_long(&mut self, long: &Long) -> LongRecord {
        let (number, is_new) = self.payloads.number(long.payload());
        if is_new {
            self.payload = Some((number, long.payload().clone(), 0));
        }
        let (opening, form, closing) = long.pieces().record();
        LongRecord { opening, payload: number, form, closing, length: long.len() as u64 }
    }

    fn channel(&mut self, log: u32, name: &ChannelName) {
        if !self.channels.contains_key(name) {
            self.channels.insert(name.clone(), small(self.logs.len()));
            self.logs.push(log);
        }
    }

    fn widen(&mut self, origin: Origin, from: u64, to: u64) {
        let number = *self.numbers.entry(origin).or_insert_with(|| {
            self.bodies.push(Span { origin, from, to, at: from });
            small(self.bodies.len() - 1)
        });
        let span = &mut self.bodies[number as usize];
        span.from = span.from.min(from);
        span.to = span.to.max(to);
        span.at = span.from;
    }

    fn piece(&self, due: &SharedDue) -> SharedPiece {
        let &SharedDue { origin, from, to, head, of_log } = due;
        let body = self.numbers[&origin];
        let base = self.bodies[body as usize].base();
        let place = |offset: u64| usize::try_from(offset - base).expect("it is in memory");
        SharedPiece { body, from: place(from), to: place(to), head, of_log }
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

    /// Begins to record what `keys` are still to get. No parting may be due. `payloads` has those
    /// that other hubs of the process have recorded.
    #[must_use]
    pub fn record(&self, keys: &[Key], payloads: Arc<LongPayloads>) -> HubRecording {
        debug_assert!(self.partings.is_empty(), "begin_partings comes first");
        let mut recording = HubRecording {
            payloads,
            channels: HashMap::new(),
            logs: Vec::new(),
            numbers: HashMap::new(),
            bodies: Vec::new(),
            next_channel: 0,
            next_body: 0,
            payload: None,
        };
        for &key in keys {
            let Some(index) = self.clients.find(key) else { continue };
            let client = self.clients.get(index);
            for log in self.recorded_channels(client) {
                recording.channel(log, &self.logs[log as usize].name);
            }
            for due in self.due(key, client) {
                if let Due::Shared(SharedDue { origin, from, to, .. }, _) = due {
                    recording.widen(origin, self.whole_from(origin, from), to);
                }
            }
        }
        recording
    }

    /// Records the output of a client of which `recording` knows; None: it has left.
    #[must_use]
    pub fn record_client(&self, key: Key, recording: &HubRecording) -> Option<ClientOutput> {
        let client = self.clients.get(self.clients.find(key)?);
        let logs = self.recorded_channels(client);
        let channels = logs.map(|log| recording.channels[&self.logs[log as usize].name]);
        let mut output = ClientOutput {
            channels: channels.collect(),
            carried: Bytes::new(),
            pieces: Vec::new(),
            begun_bytes: client.outbox.as_ref().map_or(0, |outbox| outbox.begun_bytes()),
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
        for due in self.due(key, client) {
            match due {
                Due::Carried(bytes) => output.carried = Bytes::copy_from_slice(bytes),
                Due::Own(bytes) => output.pieces.push(Piece::Own(Bytes::copy_from_slice(bytes))),
                Due::Shared(due, None) => output.pieces.push(Piece::Shared(recording.piece(&due))),
                Due::Shared(due, Some(channel)) => {
                    let (channel, piece) = (channel.clone(), recording.piece(&due));
                    output.behind.push(BehindRecord { channel, piece });
                }
            }
        }
        Some(output)
    }

    fn recorded_channels(&self, client: &Client<O>) -> impl Iterator<Item = u32> {
        let is_open = client.state == WritingState::Open;
        client.places.as_slice().iter().filter(move |_| is_open).map(|place| place.log)
    }

    /// Where the bytes that have to be recorded for those from `from` on begin: long frames are
    /// whole.
    fn whole_from(&self, origin: Origin, from: u64) -> u64 {
        let start = match origin {
            Origin::Log(log) => self.logs[log as usize].bytes.long_at(from).map(|(start, _)| start),
            Origin::Share(share) => match self.shares.body(share) {
                Body::Bytes(_) => None,
                Body::Long(_) => Some(0),
                Body::Moved(log) => {
                    log.long_start(usize::try_from(from).unwrap_or(usize::MAX)).map(|it| it as u64)
                }
            },
        };
        start.unwrap_or(from)
    }

    fn recorded_part(&self, origin: Origin, at: u64) -> RecordedPart<'_> {
        let share = match origin {
            Origin::Log(log) => return self.logs[log as usize].bytes.part(at),
            Origin::Share(share) => share,
        };
        let at = usize::try_from(at).expect("it is in memory");
        match self.shares.body(share) {
            Body::Bytes(bytes) => {
                RecordedPart { bytes: &bytes[at..], starts: Vec::new(), long: None }
            }
            Body::Long(long) => RecordedPart { bytes: &[], starts: vec![0], long: Some(long) },
            Body::Moved(log) => log.part(at),
        }
    }
}
