//! The simulation's clients that resume and leave: held logs, positions, holes that are reported.

use super::{CHANNELS, Simulation, encoding};
use crate::{
    hub::{Encoding, Hole, tests::model::ENCODINGS},
    position::{Missed, Position},
};

/// The model's knowledge of one log.
#[derive(Clone, Debug)]
pub(super) struct LogModel {
    /// The number of the channel's messages when it began.
    created: usize,
    baseline: Option<Position>,
}

/// The model's knowledge of a channel's logs.
#[derive(Debug, Default)]
pub(super) struct Known {
    last: Option<Position>,
    logs: [Option<LogModel>; ENCODINGS],
}

impl Known {
    /// The channel's logs begin anew, where it is.
    pub(super) fn begin_anew(&mut self, created: usize) {
        for log in self.logs.iter_mut().flatten() {
            *log = LogModel { created, baseline: self.last.clone() };
        }
    }
}

impl Simulation {
    /// Logs come and go with their subscribers, and their positions with them.
    pub(super) fn follow_logs(&mut self) {
        for channel in 0..CHANNELS {
            let name = self.names[channel].as_str();
            let known = &mut self.known[channel];
            if !self.hub.has_channel(name) {
                known.last = None;
            }
            for (number, log) in known.logs.iter_mut().enumerate() {
                if !self.hub.has_log(name, encoding(number)) {
                    *log = None;
                } else if log.is_none() {
                    let created = self.channels[channel].messages.len();
                    *log = Some(LogModel { created, baseline: known.last.clone() });
                }
            }
            assert_eq!(self.hub.position(name), known.last.as_ref(), "the newest position");
        }
    }

    /// A position for the next message: usually the next one, or none, or one of the past.
    pub(super) fn random_position(&mut self, channel: usize) -> Option<Position> {
        let last = self.known[channel].last.clone();
        let Position { epoch, offset } =
            last.unwrap_or_else(|| Position { epoch: "e0".into(), offset: 7 });
        match self.random.u8(0..20) {
            0..=4 => None,
            5..=14 => Some(Position { epoch, offset: offset + 1 }),
            15 => Some(Position { epoch, offset: offset + self.random.u64(2..5) }),
            16 => {
                self.next_id += 1;
                let epoch = format!("e{}", self.next_id).into();
                Some(Position { epoch, offset: self.random.u64(1..20) })
            }
            _ => {
                let offset = offset.saturating_sub(self.random.u64(0..4)).max(1);
                Some(Position { epoch, offset })
            }
        }
    }

    /// Whether the logs take a message with this position, which they then record.
    pub(super) fn advance(&mut self, channel: usize, position: Option<&Position>) -> bool {
        if !self.hub.has_channel(self.names[channel].as_str()) {
            return false;
        }
        let Some(position) = position else { return true };
        let known = &mut self.known[channel];
        if let Some(last) = &known.last
            && last.epoch == position.epoch
            && last.offset >= position.offset
        {
            return false;
        }
        known.last = Some(position.clone());
        for log in known.logs.iter_mut().flatten() {
            let before = Position { offset: position.offset - 1, ..position.clone() };
            log.baseline.get_or_insert(before);
        }
        true
    }

    /// Lets every client take everything.
    pub(super) fn drain(&mut self) {
        for client in 0..self.clients.len() {
            self.release_client(client);
        }
        for client in &self.clients {
            client.pipe.make_room(usize::MAX);
            client.pipe.0.borrow_mut().per_write = 0;
        }
        // At most one round for each client that still has to be given up.
        for _ in 0..=self.clients.len() {
            self.give_turns();
            let pass = self.hub.pass(&mut || true);
            self.deliveries += pass.deliveries;
            assert_eq!(pass.more, self.hub.has_work());
        }
        self.give_turns();
        assert!(!self.hub.has_work());
        self.hub.check();
        self.check_events();
    }

    /// No outlet is full: the waiting clients have had their turn.
    fn give_turns(&mut self) {
        for client in &self.clients {
            while self.hub.is_blocked(client.key) {
                self.hub.writable(client.key);
            }
        }
    }

    pub(super) fn hold(&mut self) {
        let Some(client) = self.pick() else { return };
        let client = &mut self.clients[client];
        self.hub.hold(client.key);
        if client.close.is_none() && !client.failed && client.held.is_none() {
            client.held = Some(client.received);
            client.skipped_when_held = client.skipped;
        }
    }

    pub(super) fn release(&mut self) {
        if let Some(client) = self.pick() {
            self.release_client(client);
        }
    }

    pub(super) fn release_client(&mut self, client: usize) {
        let client = &mut self.clients[client];
        client.release();
        self.hub.release(client.key);
    }

    /// A held client moves on to the head of a log that it has joined since.
    pub(super) fn join_at_head(&mut self) {
        let Some(client) = self.pick() else { return };
        let channel = self.random.usize(0..CHANNELS);
        let client = &mut self.clients[client];
        if client.fresh[channel] && client.skipped == client.skipped_when_held {
            let at = self.hub.join_at_head(client.key, self.names[channel].as_str());
            if client.next[channel].is_some() && client.close.is_none() && !client.failed {
                assert_eq!(at, self.known[channel].last);
                client.join_at_head(channel, self.channels[channel].messages.len());
            }
        }
    }

    pub(super) fn start(&mut self) {
        let Some(client) = self.pick() else { return };
        let channel = self.random.usize(0..CHANNELS);
        let name = self.names[channel].as_str();
        let baseline = self
            .random
            .bool()
            .then(|| Position { epoch: "e0".into(), offset: self.random.u64(0..30) });
        let client = &self.clients[client];
        let known = &mut self.known[channel];
        if let Some(baseline) = &baseline
            && known.last.is_none()
            && self.hub.has_channel(name)
        {
            known.last = Some(baseline.clone());
            for log in known.logs.iter_mut().flatten() {
                log.baseline = Some(baseline.clone());
            }
        }
        let own = known.logs[client.encoding_number].as_ref();
        let hears = self.hub.hears(client.key, name);
        let expected = own.filter(|_| hears).and_then(|log| log.baseline.clone());
        assert_eq!(self.hub.start(client.key, name, baseline.as_ref()), expected);
    }

    pub(super) fn leave(&mut self) {
        let Some(number) = self.pick() else { return };
        let channel = self.random.usize(0..CHANNELS);
        let client = &mut self.clients[number];
        client.read_bytes(&self.channels);
        let name = self.names[channel].as_str();
        let hears = client.next[channel].is_some() && client.close.is_none() && !client.failed;
        assert_eq!(self.hub.leave(client.key, name), hears, "who hears it may leave it");
        if hears {
            assert!(!self.hub.hears(client.key, name));
            client.leave(channel);
        }
    }

    /// The report due to a client that has just passed over `count` messages before the newest.
    pub(super) fn assert_hole(&self, client: usize, count: u64, hole: Option<&Hole>) {
        let client = &self.clients[client];
        if client.encoding != Encoding::V1 {
            return assert_eq!(hole, None, "who cannot be told is not");
        }
        let matches = |channel: usize| self.expected_hole(channel, client.encoding_number, count);
        let Some(hole) = hole else {
            assert!((0..CHANNELS).any(|channel| matches(channel).is_none()), "a hole is told");
            return;
        };
        let channel = self.names.iter().position(|name| *name == hole.channel);
        let channel = channel.expect("a channel of the simulation");
        // The log may have ended in the same step.
        if self.known[channel].logs[client.encoding_number].is_some() {
            assert_eq!(Some(&hole.missed), matches(channel).as_ref(), "exactly what is missing");
        }
    }

    fn expected_hole(&self, channel: usize, encoding: usize, count: u64) -> Option<Missed> {
        let log = self.known[channel].logs[encoding].as_ref()?;
        let positions = &self.channels[channel].positions;
        let newest = positions.len().checked_sub(1)?;
        let first = newest.checked_sub(count as usize)?;
        let newest_in = |range: std::ops::Range<usize>| {
            let position = positions.get(range)?.iter().rev().flatten().next();
            position.cloned().or_else(|| log.baseline.clone())
        };
        let goes_on = newest_in(log.created..newest + 1)?;
        let before = newest_in(log.created..first).filter(|at| at.epoch == goes_on.epoch);
        let from = before.map_or(1, |before| before.offset + 1);
        let to = goes_on.offset - u64::from(positions[newest].is_some());
        Some(Missed { epoch: Some(goes_on.epoch), from, to: Some(to.max(from - 1)), sure: false })
    }
}
