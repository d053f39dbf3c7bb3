//! What is missing in the process's memory is read from Redis' stream: once for everybody.
//!
//! However many clients resume, and however many shards miss the same messages, one reading of a
//! channel is on its way in the process; the others wait for it and look again, or read themselves
//! when that takes long: a shard at a standstill holds nobody up. What is known to be nowhere is
//! not read for again.

use std::{cell::Cell, sync::Arc};

use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    broker::{
        Recovery, Since,
        history::{Continuity, Reading, Ring, Stamped},
        redis::{
            commands::{call_error::CallError, connectivity::Link, router::Way},
            process::Process,
            protocol::{
                arguments,
                replies::{self, Read, StreamPosition},
            },
        },
    },
    channel::ChannelName,
    clock,
    limits::{
        HISTORY_MESSAGE_COST_BYTES, HISTORY_READ_PAUSE, SHARED_ANSWER_WAIT, SUBSCRIBE_DEADLINE,
    },
    position::{Position, is_empty_epoch, is_same_epoch},
    telemetry::seldom,
};

/// What somebody needs to be in memory: of `epoch`, all after `after`, up to `to`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span<'a> {
    pub(crate) epoch: &'a Arc<str>,
    pub(crate) after: u64,
    pub(crate) to: u64,
}

/// What is to be done to get it there.
enum Need<'a> {
    Nothing,
    /// Somebody reads; look again when it is over.
    Wait(watch::Receiver<()>),
    /// Read from this offset on, if that is urgent or allowed.
    Read {
        flight: Flight<'a>,
        first: u64,
        is_allowed: bool,
    },
}

/// The reading of one channel on its way; over when dropped, however it went.
pub(crate) struct Flight<'a> {
    process: &'a Process,
    channel: &'a ChannelName,
    /// Bytes that are set apart for it, and what it brought.
    apart: i64,
    brought: Cell<Option<usize>>,
    /// Its end wakes who waits.
    over: watch::Sender<()>,
}

impl Flight<'_> {
    /// It has brought this.
    pub(crate) fn has_brought(&self, read: &Read) {
        let cost = |one: &Stamped| one.kept.data.len() + HISTORY_MESSAGE_COST_BYTES;
        self.brought.set(Some(read.messages.iter().map(cost).sum()));
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        let mut memory = self.process.memory();
        // Unless somebody has waited for long, and reads instead.
        if memory
            .readings
            .get(self.channel)
            .is_some_and(|it| it.same_channel(&self.over.subscribe()))
        {
            memory.readings.remove(self.channel);
        }
        memory.allowance.end(self.apart, self.brought.get());
    }
}

impl Process {
    /// Gets `span` into memory, as far as Redis has it and there is room. Whether what Redis has
    /// is of one history with what is here.
    ///
    /// What is not urgent waits until the process may read.
    ///
    /// # Errors
    /// When Redis could not be asked.
    pub(crate) async fn cover(
        &self,
        link: &Link,
        channel: &ChannelName,
        span: Span<'_>,
        is_urgent: bool,
    ) -> Result<Continuity, CallError> {
        if !self.settings.history.is_on() || span.after >= span.to {
            return Ok(Continuity::Known);
        }
        let mut late = None;
        loop {
            match self.need(channel, span, late.as_ref()) {
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
                    let read = self.read_stream(link, channel, first).await?;
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

    /// Begins to read what somebody lacks who comes with `since`: of which epoch what comes before
    /// is known, from which offset on, and how much at most. None: nothing, or somebody reads.
    pub(crate) fn begin_reading<'a>(
        &'a self,
        channel: &'a ChannelName,
        since: &Since,
    ) -> Option<(Flight<'a>, Arc<str>, u64, usize)> {
        let mut depth = usize::MAX;
        if !self.settings.history.is_on() {
            return None;
        }
        let Position { epoch, offset } = match since {
            Since::After(position) => position.clone(),
            Since::Newest(0) => return None,
            Since::Newest(count) => match self.memory().histories.get(channel) {
                Some(ring) => {
                    let Position { epoch, offset } = ring.position();
                    Position { epoch, offset: offset.saturating_sub(*count as u64) }
                }
                None => {
                    depth = *count;
                    Position { epoch: "".into(), offset: 0 }
                }
            },
        };
        // Where the channel stands is not known.
        match self.need(channel, Span { epoch: &epoch, after: offset, to: u64::MAX }, None) {
            Need::Read { flight, first, is_allowed: true } => Some((flight, epoch, first, depth)),
            Need::Read { .. } | Need::Wait(_) | Need::Nothing => None,
        }
    }

    /// For somebody who has waited for the reading `late` for long: whoever reads may be at a
    /// standstill.
    fn need<'a>(
        &'a self,
        channel: &'a ChannelName,
        span: Span<'_>,
        late: Option<&watch::Receiver<()>>,
    ) -> Need<'a> {
        let mut memory = self.memory();
        memory.histories.expire(clock::now());
        // No deeper than is asked for; who wants more then gets all there is.
        let mut first = span.after.saturating_add(1);
        if let Some(ring) = memory.histories.get(channel) {
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
        if let Some(reading) = memory.readings.get(channel)
            && !late.is_some_and(|late| late.same_channel(reading))
        {
            return Need::Wait(reading.clone());
        }
        let (over, waiting) = watch::channel(());
        memory.readings.insert(channel.clone(), waiting);
        let is_allowed = memory.allowance.is_open(clock::now());
        let apart = memory.allowance.begin();
        let brought = Cell::new(None);
        let flight = Flight { process: self, channel, apart, brought, over };
        Need::Read { flight, first, is_allowed }
    }

    async fn read_stream(
        &self,
        link: &Link,
        channel: &ChannelName,
        first: u64,
    ) -> Result<Option<Read>, CallError> {
        let args = arguments::reading(&self.settings.history, first, usize::MAX).to_vec();
        let keys = self.settings.names.keys(channel);
        let answer =
            link.call(channel, Way::Beside, &self.settings.scripts.read, keys, args).await?;
        replies::read(answer).map_err(CallError::InDoubt)
    }

    /// Remembers what was read, as [`arguments::reading`] says.
    pub(crate) fn take_in(
        &self,
        channel: &ChannelName,
        read: Read,
        first: u64,
        depth: usize,
    ) -> Continuity {
        let Read { stream_position, lives_ms, messages } = read;
        let now = clock::now();
        // The stream's life began with the newest message.
        let age = match u64::try_from(lives_ms) {
            Ok(lives_ms) => {
                self.settings.history.ttl.saturating_sub(std::time::Duration::from_millis(lives_ms))
            }
            Err(_) => std::time::Duration::ZERO,
        };
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let at = clock::Millis(now.0.saturating_sub(age_ms));
        // Nothing before the oldest, or no room for it. The channel may have begun anew, and not
        // have got so far.
        let oldest = messages.first().map_or(u64::MAX, |one| one.position.offset);
        let is_short = oldest > first && stream_position.position.offset >= first;
        let is_cut = depth < self.settings.history.messages_max && messages.len() >= depth;
        let is_whole = !is_cut && (first == 1 || is_short);
        let reading = Reading {
            position: stream_position.position,
            nonce: stream_position.nonce,
            messages,
            is_whole,
        };
        self.memory().histories.fill(channel, reading, at)
    }

    /// Ends an epoch that stands for two histories; where the channel stands then. Shards hear of
    /// it by what comes next.
    pub(crate) async fn end(
        &self,
        link: &Link,
        channel: &ChannelName,
        epoch: &str,
    ) -> Result<StreamPosition, CallError> {
        let stream_position = self.rotate(link, channel, epoch, None).await?;
        self.forget(channel, epoch);
        Ok(stream_position)
    }

    /// What of `channel`'s history there is since `since`, up to `to`, once Redis was asked for
    /// what is missing here.
    pub(crate) async fn recover(
        &self,
        link: &Link,
        channel: &ChannelName,
        since: &Since,
        to: &Position,
    ) -> Recovery {
        let after = match since {
            Since::After(after) if after.is_comparable(to) && after.offset <= to.offset => {
                after.offset
            }
            // Of another history: all of this one is wanted.
            Since::After(_) => 0,
            Since::Newest(count) => to.offset.saturating_sub(*count as u64),
        };
        let mut since = since.clone();
        let covering = async {
            let span = Span { epoch: &to.epoch, after, to: to.offset };
            if self.cover(link, channel, span, false).await? == Continuity::Diverged {
                self.end(link, channel, &to.epoch).await?;
            }
            if let Since::After(after) = &since
                && is_empty_epoch(&after.epoch)
                && !after.is_comparable(to)
                && after.offset <= to.offset
                && self.begins_after(link, channel, after, to).await?
            {
                // All of this history is all that it lacks; less what it has counted since then.
                since = Since::After(Position { epoch: to.epoch.clone(), offset: after.offset });
            }
            Ok::<_, CallError>(())
        };
        match timeout(SUBSCRIBE_DEADLINE, covering).await {
            Ok(Ok(())) => {}
            Ok(Err(CallError::Refused(error))) => {
                seldom!(warn, "Redis refuses to tell the history", %channel, %error);
            }
            Ok(Err(error)) => tracing::debug!(%channel, ?error, "the history cannot be read"),
            Err(_) => tracing::debug!(%channel, "the history was not read in time"),
        }
        let memory = self.memory();
        let kept = memory.histories.get(channel).map(|ring| ring.recovery(&since, to));
        kept.unwrap_or_else(|| Ring::new(to.clone()).recovery(&since, to))
    }
}
