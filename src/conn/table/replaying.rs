//! Clients that resume: missed messages are sent first, piece by piece, while their logs wait.
//!
//! A client is held from the moment it joins its logs until it has been sent everything before that
//! moment. The messages are read from the broker's history, one piece at a time, and the next one
//! when the client has taken that piece and other clients have had their turn: so a resuming client
//! costs one piece of memory and holds up no other client, however much it missed. A long message
//! is not copied: a plain client reads the history's own bytes, and in other encodings there is one
//! copy for all clients that are reading it.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    broker::{History, Missed, Position, Publication, Start},
    channel::ChannelName,
    conn::{
        settings::ResumeMiss,
        table::{ConnectionTable, FollowUp, entry},
        write::{encodings, laid_out, replay::Step},
    },
    hub::{Encoding, Hole, Key, Source},
    limits::{REPLAY_COPY_BYTES_MAX, REPLAY_PIECE_BYTES},
    metrics::Resumed,
    ws::{close::CloseReason, frame},
};

impl ConnectionTable {
    /// Lets a client's logs wait until it has been told where it begins, and has been sent what it
    /// missed.
    pub fn hold(&mut self, key: Key) {
        self.hub.hold(key);
        self.replays.entry(key).or_default().joining = true;
    }

    /// The client's logs go out, unless something else must go first: then that goes on.
    fn release(&mut self, key: Key) {
        if let Some(replay) = self.replays.get(&key) {
            if !replay.is_over() {
                // A client with unread bytes goes on when it has taken them. Where its last turn
                // gave it none, nothing else would call for the next.
                if self.hub.unread(key) == 0 {
                    self.go_on_with_replay(key);
                }
                return;
            }
            for Hole { channel, missed } in self.end_replay(key) {
                self.send_gap(key, &channel, &missed);
            }
        }
        self.hub.release(key);
    }

    /// A client has missed part of a log: it is told before it gets the next messages.
    pub(super) fn on_hole(&mut self, key: Key, hole: Hole) {
        match self.replays.get_mut(&key) {
            Some(replay) => {
                replay.push_hole(hole);
                self.account_replay(key);
            }
            None => self.send_gap(key, &hole.channel, &hole.missed),
        }
    }

    /// Charges what a client is still to be given to the budget.
    pub(super) fn account_replay(&mut self, key: Key) {
        let Some(replay) = self.replays.get_mut(&key) else { return };
        let cost = replay.cost();
        let charged = std::mem::replace(&mut replay.charged_bytes, cost);
        self.input.charge(cost);
        self.input.release(charged);
        if cost > charged && self.input.is_tight() && !self.hub.relieve() {
            self.close(key, CloseReason::SlowConsumer);
        }
    }

    /// Drops a client's replay; returns the holes that were to be reported.
    pub(super) fn end_replay(&mut self, key: Key) -> Vec<Hole> {
        let Some(replay) = self.replays.remove(&key) else { return Vec::new() };
        self.input.release(replay.charged_bytes);
        replay.holes
    }

    /// Where the client begins has been found out, or that it does not begin.
    pub(super) fn joined(&mut self, key: Key) {
        if let Some(replay) = self.replays.get_mut(&key) {
            replay.joining = false;
        }
    }

    /// A client has left `channel`: its missed messages there are not sent any more.
    pub(super) fn forget_replay(&mut self, key: Key, channel: &ChannelName) {
        if let Some(replay) = self.replays.get_mut(&key) {
            replay.steps.retain(|step| step.channel != *channel);
            replay.holes.retain(|hole| hole.channel != *channel);
            self.release(key);
        }
    }

    /// The newest position in this shard's logs of `channel`, if it is known.
    #[must_use]
    pub fn position(&self, channel: &ChannelName) -> Option<Position> {
        self.hub.position(channel.as_str()).cloned()
    }

    /// The position of a client that joined `channel` while its position was not known; see
    /// [`crate::hub::Hub::start`].
    pub fn start(
        &mut self,
        key: Key,
        channel: &ChannelName,
        baseline: Option<&Position>,
    ) -> Option<Position> {
        self.hub.start(key, channel.as_str(), baseline)
    }

    /// Moves a held client to the head of its log, if that has got as far as `to`, or has gone on
    /// to another epoch: it was ahead of this shard elsewhere. The position there.
    pub fn catch_up(&mut self, key: Key, channel: &ChannelName, to: &Position) -> Option<Position> {
        let last = self.hub.position(channel.as_str())?;
        let is_there = !last.is_comparable(to) || last.offset >= to.offset;
        is_there.then(|| self.hub.join_at_head(key, channel.as_str()))?
    }

    /// A new client has joined its channels: it is told where it begins and what is missing,
    /// then gets what it missed, then its logs.
    pub fn welcome(&mut self, key: Key, starts: Vec<Start>) {
        if entry(&mut self.entries, key).is_some_and(|entry| entry.encoding.is_v1()) {
            self.send_hello(key, &starts);
        }
        self.begin(key, starts);
    }

    /// Gaps, then what was missed, then the logs.
    pub(super) fn begin(&mut self, key: Key, starts: Vec<Start>) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let encoding = client.encoding;
        let mut steps = VecDeque::new();
        for Start { channel, from, to, resumed, missed } in starts {
            if resumed {
                let word = if missed.is_some() { Resumed::Missed } else { Resumed::Recovered };
                self.metrics.resumes.add(word as usize, 1);
            }
            if let Some(missed) = &missed {
                if encoding.tells_gaps() {
                    self.send_gap(key, &channel, missed);
                } else if self.settings.resume_miss == ResumeMiss::Close {
                    return self.close(key, CloseReason::HistoryGone);
                }
            }
            if let (Encoding::Sse, Some(from)) = (encoding, &from) {
                self.hub.queue(key, &[&encodings::sse_position(from)]);
            }
            if let (Some(after), Some(to)) = (from, to)
                && after.offset < to.offset
            {
                steps.push_back(Step { channel, after, to: to.offset });
            }
        }
        if let Some(replay) = self.replays.get_mut(&key) {
            replay.joining = false;
            if replay.steps.is_empty() {
                replay.steps = steps;
            } else {
                replay.steps.append(&mut steps);
            }
        }
        self.account_replay(key);
        self.release(key);
        self.go_on_with_replay(key);
        self.handle_hub_events();
    }

    /// The next piece follows, if the client is there to take it and has taken the one before.
    pub(super) fn go_on_with_replay(&mut self, key: Key) {
        if self.replays.is_empty() || self.hub.unread(key) > REPLAY_PIECE_BYTES {
            return;
        }
        let is_live = entry(&mut self.entries, key).is_some_and(|entry| entry.is_live());
        if let Some(replay) = self.replays.get_mut(&key)
            && is_live
            && !replay.steps.is_empty()
            && !std::mem::replace(&mut replay.is_due, true)
        {
            self.follow_ups.push(FollowUp::Replay(key));
        }
    }

    /// Sends a client the next piece of what it missed. If that is no longer kept, the client took
    /// too long.
    pub(super) fn replay(&mut self, key: Key, history: &dyn History) {
        let Some(replay) = self.replays.get_mut(&key) else { return };
        replay.is_due = false;
        let Some(Step { channel, after, to }) = replay.steps.front() else { return };
        let piece = history.history(channel, after, *to, REPLAY_PIECE_BYTES);
        // A step is never empty: a piece without a message has lost what was in it.
        let Some(piece) = piece.filter(|piece| !piece.is_empty()) else {
            return self.miss_step(key);
        };
        let Some(client) = entry(&mut self.entries, key) else { return };
        let encoding = client.encoding.uncompressed();
        let (mut given, mut room) = (0, REPLAY_PIECE_BYTES);
        for message in &piece {
            let Some(taken) = self.give(key, encoding, message, room) else { break };
            given += 1;
            room -= taken;
        }
        self.metrics.replayed_messages.add(given as u64);
        if let Some(replay) = self.replays.get_mut(&key)
            && let Some(step) = replay.steps.front_mut()
        {
            match piece[..given].last().and_then(|last| last.position.as_ref()) {
                Some(last) if last.offset < step.to => step.after = last.clone(),
                _ => {
                    replay.steps.pop_front();
                }
            }
        }
        // Its logs go out behind this; the next piece when this is taken, if this was anything.
        self.release(key);
    }

    /// Sends a client one message of its history; returns how much of `room` it took: all of it for
    /// a long message, of which there is only one copy for all. None: it does not fit after others.
    fn give(
        &mut self,
        key: Key,
        encoding: Encoding,
        message: &Publication,
        room: usize,
    ) -> Option<usize> {
        if room == 0 {
            return None;
        }
        let data = &message.data;
        if !self.hub.can_hold(data.len()) {
            self.miss_unheld(key, message);
            return Some(room);
        }
        let source = message.position.as_ref().map(|position| {
            let (channel, position) = (message.channel.clone(), position.clone());
            Source::Message(channel, position, encoding, data.as_ptr().addr())
        });
        if let Some(source) = &source
            && encoding == Encoding::Plain
            && data.len() > REPLAY_COPY_BYTES_MAX
        {
            let header = frame::data_header(message.kind, data.len());
            self.hub.queue_shared(key, header.as_ref(), source.clone(), || data.clone());
            return Some(room);
        }
        if let Some(source) = &source
            && self.hub.is_shared(source)
        {
            self.hub.queue_shared(key, &[], source.clone(), Bytes::new);
            return Some(room);
        }
        if let Some(source) = &source
            && self.hub.is_long(data.len())
        {
            let laid = || laid_out::lay_out(message, encoding);
            self.hub.queue_long(key, source.clone(), laid);
            return Some(room);
        }
        let (header, payload) = self.encoder.message(encoding, message);
        let header = header.as_ref().map_or(&[][..], AsRef::as_ref);
        let length = header.len() + payload.len();
        if let Some(source) = source
            && length > REPLAY_COPY_BYTES_MAX
        {
            let whole = || Bytes::from([header, payload].concat());
            self.hub.queue_shared(key, &[], source, whole);
            return Some(room);
        }
        if length > room && room < REPLAY_PIECE_BYTES {
            return None;
        }
        self.hub.queue(key, &[header, payload]);
        Some(length.min(room))
    }

    /// The next messages for a client are gone: it is told, or closed.
    fn miss_step(&mut self, key: Key) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let tells_gaps = client.encoding.tells_gaps();
        if !tells_gaps && self.settings.resume_miss == ResumeMiss::Close {
            return self.close(key, CloseReason::HistoryGone);
        }
        let step = self.replays.get_mut(&key).and_then(|replay| replay.steps.pop_front());
        if let Some(Step { channel, after, to }) = step
            && tells_gaps
        {
            let Position { epoch, offset } = after;
            let missed = Missed { epoch: Some(epoch), from: offset + 1, to: Some(to), sure: false };
            self.send_gap(key, &channel, &missed);
        }
        self.release(key);
    }
}
