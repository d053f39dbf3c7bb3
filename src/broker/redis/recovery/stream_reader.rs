//! Messages missing in the process's memory are read from Redis' stream: once for all.
//!
//! However many clients resume, and however many shards miss the same messages, one reading of a
//! channel is under way in the process; the others wait for it and look again, or read themselves
//! when that takes long: a shard at a standstill holds up no other. Messages known to be nowhere
//! are not read for again.

use std::{rc::Rc, sync::Arc};

use tokio::time::{sleep, timeout};

use super::memory::{Flight, Memory, Need, Span};
use crate::{
    broker::{
        Since,
        history::{Continuity, Reading},
        redis::{
            commands::{
                call_error::CallError,
                router::{CallOrder, CommandRouter},
            },
            protocol::{
                arguments,
                replies::{self, Ended, Read},
            },
        },
    },
    channel::ChannelName,
    clock::Millis,
    limits::{HISTORY_READ_PAUSE, SHARED_ANSWER_WAIT},
    position::Position,
};

/// A handle's reader of Redis' streams, into the process's memory.
#[derive(Debug)]
pub(crate) struct StreamReader {
    router: Rc<CommandRouter>,
    memory: Arc<Memory>,
}

impl StreamReader {
    pub(crate) fn new(router: Rc<CommandRouter>, memory: Arc<Memory>) -> Self {
        Self { router, memory }
    }

    /// Gets `span` into memory, as far as Redis has it and there is room. Returns whether Redis'
    /// content is of one history with the present one.
    ///
    /// A reading that is not urgent waits until the process may read.
    ///
    /// # Errors
    /// When Redis could not be asked.
    pub(crate) async fn cover(
        &self,
        channel: &ChannelName,
        span: Span<'_>,
        is_urgent: bool,
    ) -> Result<Continuity, CallError> {
        if !self.router.settings.history.is_on() || span.after >= span.to {
            return Ok(Continuity::Known);
        }
        let mut late = None;
        loop {
            match self.memory.need(channel, span, late.as_ref()) {
                Need::Nothing => return Ok(Continuity::Known),
                Need::Wait(mut reading) => {
                    // It never sends: it resolves by its end.
                    if timeout(SHARED_ANSWER_WAIT, reading.changed()).await.is_err() {
                        late = Some(reading);
                    }
                }
                Need::Read { flight, is_allowed: false, .. } if !is_urgent => {
                    drop(flight);
                    sleep(HISTORY_READ_PAUSE).await;
                }
                Need::Read { flight, first, .. } => {
                    let read = self.read_stream(channel, first).await?;
                    let read = read.inspect(|read| flight.has_brought(read));
                    let continuity = read.map_or(Continuity::Known, |read| {
                        self.take_in(channel, read, first, usize::MAX)
                    });
                    drop(flight);
                    return Ok(continuity);
                }
            }
        }
    }

    /// Begins to read the messages that a client with `since` lacks: the epoch whose beginning is
    /// known, the first offset, and the most to be read. None: nothing is lacking, or a reading is
    /// under way.
    pub(super) fn begin_reading<'a>(
        &'a self,
        channel: &'a ChannelName,
        since: &Since,
    ) -> Option<(Flight<'a>, Arc<str>, u64, usize)> {
        let mut depth = usize::MAX;
        if !self.router.settings.history.is_on() {
            return None;
        }
        let Position { epoch, offset } = match since {
            Since::After(position) => position.clone(),
            Since::Newest(0) => return None,
            Since::Newest(count) => match self.memory.newest(channel) {
                Some(Ended { position: Position { epoch, offset }, .. }) => {
                    Position { epoch, offset: offset.saturating_sub(*count as u64) }
                }
                None => {
                    depth = *count;
                    Position { epoch: "".into(), offset: 0 }
                }
            },
        };
        // The channel's position is unknown.
        match self.memory.need(channel, Span { epoch: &epoch, after: offset, to: u64::MAX }, None) {
            Need::Read { flight, first, is_allowed: true } => Some((flight, epoch, first, depth)),
            Need::Read { .. } | Need::Wait(_) | Need::Nothing => None,
        }
    }

    async fn read_stream(
        &self,
        channel: &ChannelName,
        first: u64,
    ) -> Result<Option<Read>, CallError> {
        let args = arguments::reading(&self.router.settings.history, first, usize::MAX).to_vec();
        let keys = self.router.settings.names.keys(channel);
        let answer = self
            .router
            .call(channel, CallOrder::Query, &self.router.settings.scripts.read, &keys, &args)
            .await?;
        replies::read(answer).map_err(CallError::InDoubt)
    }

    /// Remembers what was read, as [`arguments::reading`] says.
    pub(super) fn take_in(
        &self,
        channel: &ChannelName,
        read: Read,
        first: u64,
        depth: usize,
    ) -> Continuity {
        let Read { stream_position, lives_ms, messages } = read;
        let now = self.router.clock.now();
        // The stream's life began with the newest message.
        let age = match u64::try_from(lives_ms) {
            Ok(lives_ms) => self
                .router
                .settings
                .history
                .ttl
                .saturating_sub(std::time::Duration::from_millis(lives_ms)),
            Err(_) => std::time::Duration::ZERO,
        };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let at = Millis(now.0.saturating_sub(age_ms));
        // Nothing before the oldest, or no room for it. The channel may have begun anew, and not
        // have got so far.
        let oldest = messages.first().map_or(u64::MAX, |one| one.position.offset);
        let is_short = oldest > first && stream_position.position.offset >= first;
        let is_cut = depth < self.router.settings.history.messages_max && messages.len() >= depth;
        let is_whole = !is_cut && (first == 1 || is_short);
        let reading = Reading {
            position: stream_position.position,
            nonce: stream_position.nonce,
            messages,
            is_whole,
        };
        self.memory.merge(channel, reading, at)
    }
}
