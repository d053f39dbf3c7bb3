//! A process's memory of the channels that it hears, for all its shards; and the readings of Redis'
//! streams that are under way to complete it. Nothing here does IO.
//!
//! One mutex, never held over an await.

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use super::allowance::Allowance;
use crate::{
    broker::{
        Evicted, HistorySettings, Publication, Recovery, Since,
        history::{Continuity, Histories, Reading, Ring, StreamEntry},
        redis::protocol::replies::{Ended, Read},
    },
    channel::ChannelName,
    clock::{Clock, Millis},
    limits::{HISTORY_CHANNELS_MAX, HISTORY_MESSAGE_COST_BYTES},
    position::{Position, is_same_epoch},
};

/// The memory of a process.
#[derive(Debug)]
pub(crate) struct Memory {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    histories: Histories,
    /// The readings of streams on their way; each resolves (by being dropped) when it is over.
    readings: HashMap<ChannelName, watch::Receiver<()>>,
    /// The bytes of histories that may be read before the next pause.
    allowance: Allowance,
}

/// The span that is needed in memory: of `epoch`, all after `after`, up to `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) epoch: &'a Arc<str>,
    pub(crate) after: u64,
    pub(crate) to: u64,
}

/// The step that gets it there.
pub(super) enum Need<'a> {
    Nothing,
    /// A reading is under way; look again when it is over.
    Wait(watch::Receiver<()>),
    /// Read from this offset on, if that is urgent or allowed.
    Read {
        flight: Flight<'a>,
        first: u64,
        is_allowed: bool,
    },
}

/// The reading of one channel on its way; over when dropped, however it went.
pub(super) struct Flight<'a> {
    memory: &'a Memory,
    channel: &'a ChannelName,
    /// The bytes reserved for it, and its size.
    reserved: i64,
    brought: Cell<Option<usize>>,
    /// Its end wakes the callers that wait for it.
    over: watch::Sender<()>,
}

impl Flight<'_> {
    /// It has brought this.
    pub(super) fn has_brought(&self, read: &Read) {
        let cost = |one: &StreamEntry| one.kept.data.len() + HISTORY_MESSAGE_COST_BYTES;
        self.brought.set(Some(read.messages.iter().map(cost).sum()));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        // Unless a caller has waited for long, and reads instead.
        if state
            .readings
            .get(self.channel)
            .is_some_and(|it| it.same_channel(&self.over.subscribe()))
        {
            state.readings.remove(self.channel);
        }
        state.allowance.end(self.reserved, self.brought.get());
    }
}

impl Memory {
    pub(crate) fn new(clock: Clock, history: HistorySettings) -> Self {
        let state = Mutex::new(State {
            histories: Histories::new(history, HISTORY_CHANNELS_MAX),
            readings: HashMap::new(),
            allowance: Allowance::new(history.total_bytes_max, history.bytes_max),
        });
        Self { clock, state }
    }

    /// A panic elsewhere leaves whole messages: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The evictions from histories for want of room.
    pub(crate) fn evicted(&self) -> Evicted {
        self.state().histories.evicted()
    }

    /// A shard has heard a message of `channel`, and all before it.
    pub(crate) fn add_live(&self, channel: &ChannelName, message: StreamEntry) -> Continuity {
        self.state().histories.add_live(channel, message, self.clock.now())
    }

    /// The nonce of a message, if it is remembered.
    pub(crate) fn nonce_at(&self, channel: &ChannelName, epoch: &str, offset: u64) -> Option<u64> {
        let state = self.state();
        let ring = state.histories.get(channel)?;
        (*ring.position().epoch == *epoch).then(|| ring.nonce_at(offset))?
    }

    /// The offsets of `channel` that can be read: all after the first, up to the second.
    pub(crate) fn kept(&self, channel: &ChannelName, epoch: &Arc<str>) -> Option<(u64, u64)> {
        let state = self.state();
        let ring = state.histories.get(channel)?;
        let position = ring.position();
        is_same_epoch(&position.epoch, epoch).then(|| (ring.floor(), position.offset))
    }

    /// The position of the newest message received of `channel`.
    pub(super) fn newest(&self, channel: &ChannelName) -> Option<Ended> {
        let newest = |ring: &Ring| Ended { position: ring.position(), nonce: ring.nonce() };
        self.state().histories.get(channel).map(newest)
    }

    /// Remembers what was read, as it was `at` some moment.
    pub(super) fn merge(&self, channel: &ChannelName, reading: Reading, at: Millis) -> Continuity {
        self.state().histories.merge(channel, reading, at)
    }

    /// A history was ended since there was no room for it.
    pub(crate) fn count_evicted(&self) {
        self.state().histories.count_evicted();
    }

    /// The messages of `channel` that are available since `since`, up to `to`.
    pub(crate) fn recovery(&self, channel: &ChannelName, since: &Since, to: &Position) -> Recovery {
        let state = self.state();
        let kept = state.histories.get(channel).map(|ring| ring.recovery(since, to));
        kept.unwrap_or_else(|| Ring::new(to.clone()).recovery(since, to))
    }

    /// Some messages after `after`, up to the offset `to`.
    pub(crate) fn piece(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.state().histories.piece(channel, after, to, bytes_max)
    }

    /// Whether `epoch` of `channel` came before the one that is known here.
    pub(crate) fn has_replaced(&self, channel: &ChannelName, epoch: &Arc<str>) -> bool {
        self.state().histories.get(channel).is_some_and(|ring| ring.has_replaced(epoch))
    }

    /// The last positions here of the histories that are over once `channel` continues in `epoch`.
    pub(crate) fn ends(&self, channel: &ChannelName, epoch: &Arc<str>) -> Vec<Vec<Ended>> {
        let state = self.state();
        let ring = state.histories.get(channel);
        let replaced = ring.map(|ring| ring.replaced_by(epoch)).unwrap_or_default();
        let end = |(position, nonce)| vec![Ended { position, nonce }];
        replaced.into_iter().rev().map(end).collect()
    }

    /// Whether the newest that was heard of `channel` here is of another epoch.
    pub(crate) fn has_left(&self, channel: &ChannelName, epoch: &str) -> bool {
        let state = self.state();
        state.histories.get(channel).is_some_and(|ring| *ring.position().epoch != *epoch)
    }

    /// Whether nothing is remembered of `channel`, though histories are kept.
    pub(crate) fn has_forgotten(&self, channel: &ChannelName) -> bool {
        let state = self.state();
        state.histories.are_kept() && state.histories.get(channel).is_none()
    }

    /// Forgets the messages of `channel` under `epoch`.
    pub(crate) fn forget(&self, channel: &ChannelName, epoch: &str) {
        let mut state = self.state();
        let ring = state.histories.get(channel);
        if ring.is_some_and(|ring| *ring.position().epoch == *epoch) {
            state.histories.forget(channel);
        }
    }

    /// For a caller that has waited for the reading `late` for long: the reader may be at a
    /// standstill.
    pub(super) fn need<'a>(
        &'a self,
        channel: &'a ChannelName,
        span: Span<'_>,
        late: Option<&watch::Receiver<()>>,
    ) -> Need<'a> {
        let mut state = self.state();
        state.histories.expire(self.clock.now());
        // No deeper than is asked for; a caller that then wants more gets all there is.
        let mut first = span.after.saturating_add(1);
        if let Some(ring) = state.histories.get(channel) {
            let Position { epoch, offset } = ring.position();
            first = 1;
            if is_same_epoch(&epoch, span.epoch) {
                let reaches_back = ring.floor() <= span.after || ring.is_complete();
                if reaches_back && offset >= span.to {
                    return Need::Nothing;
                }
                if reaches_back {
                    first = offset + 1;
                }
            }
        }
        if let Some(reading) = state.readings.get(channel)
            && !late.is_some_and(|late| late.same_channel(reading))
        {
            return Need::Wait(reading.clone());
        }
        let (over, waiting) = watch::channel(());
        state.readings.insert(channel.clone(), waiting);
        let is_allowed = state.allowance.is_open(self.clock.now());
        let reserved = state.allowance.begin();
        let brought = Cell::new(None);
        let flight = Flight { memory: self, channel, reserved, brought, over };
        Need::Read { flight, first, is_allowed }
    }
}
