//! The position of a channel is asked once for all clients that want it at the same time.
//!
//! An answer serves every client that was subscribed before the query was sent: messages that
//! the answer does not include arrive. So all handshakes of a shard share one query, and shards
//! that subscribe while one is under way share the next. For a client that resumes, the history
//! comes along with the answer. However many clients come back at once, Redis is asked at most once
//! per shard, and twice if all shards are wanted at the same time. A shard at a standstill holds up
//! no other: clients that have waited for its answer for long send a query of their own.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{broker::redis::protocol::replies::StreamPosition, channel::ChannelName};

/// The queries of a process that have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct PositionQueries(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many shards hear a channel.
    hearers: HashMap<ChannelName, usize>,
    /// How many queries were sent.
    count: u64,
    open: HashMap<ChannelName, Open>,
}

/// One channel's: at most one is on its way, and at most one waits for its turn.
#[derive(Debug, Default)]
struct Open {
    put: Option<Put>,
    next: Option<(AnswerSender, AnswerReceiver)>,
}

#[derive(Debug)]
struct Put {
    number: u64,
    answer: AnswerReceiver,
}

type AnswerSender = watch::Sender<Option<StreamPosition>>;
/// Its sender is dropped without an answer if there will be none.
type AnswerReceiver = watch::Receiver<Option<StreamPosition>>;

/// The next step for a caller that wants the position.
pub(crate) enum QueryStep<'a> {
    /// Send the query.
    Ask(Asking<'a>),
    /// The answer to the one that was sent will serve.
    Share { number: u64, answer: AnswerReceiver },
    /// It will not: once it is `over`, the `next` one's will.
    Wait { number: u64, over: AnswerReceiver, next: AnswerReceiver },
}

/// The query of one channel on its way; over when dropped, however it went.
pub(crate) struct Asking<'a> {
    queries: &'a PositionQueries,
    channel: &'a ChannelName,
    number: u64,
    pub(crate) answer: AnswerSender,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let open = &mut self.queries.state().open;
        let Some(Open { put, next }) = open.get_mut(self.channel) else { return };
        if put.as_ref().is_some_and(|put| put.number == self.number) {
            *put = None;
            if next.is_none() {
                open.remove(self.channel);
            }
        }
    }
}

impl PositionQueries {
    /// Never held over an await. A panic elsewhere leaves whole entries: go on.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One shard more hears `channel`.
    pub(crate) fn heard(&self, channel: &ChannelName) {
        *self.state().hearers.entry(channel.clone()).or_default() += 1;
    }

    /// One shard less. After the last one no answer about `channel` is needed any more.
    pub(crate) fn unheard(&self, channel: &ChannelName) {
        let mut state = self.state();
        let Some(shards) = state.hearers.get_mut(channel) else { return };
        *shards -= 1;
        if *shards == 0 {
            state.hearers.remove(channel);
            state.open.remove(channel);
        }
    }

    /// The number of the next query.
    pub(crate) fn next_query(&self) -> u64 {
        self.state().count + 1
    }

    /// For a caller that is served by queries from the number `first` on, and that has waited for
    /// the one of the number `late` for long: its sender may be at a standstill.
    pub(crate) fn next_step<'a>(
        &'a self,
        channel: &'a ChannelName,
        first: u64,
        late: Option<u64>,
    ) -> QueryStep<'a> {
        let state = &mut *self.state();
        let Open { put, next } = state.open.entry(channel.clone()).or_default();
        match put.as_ref().filter(|put| Some(put.number) != late) {
            Some(Put { number, answer }) if *number >= first => {
                QueryStep::Share { number: *number, answer: answer.clone() }
            }
            Some(Put { number, answer: over }) => {
                let (_, next) = next.get_or_insert_with(|| watch::channel(None));
                QueryStep::Wait { number: *number, over: over.clone(), next: next.clone() }
            }
            None => {
                state.count += 1;
                let number = state.count;
                let (sender, answer) = next.take().unwrap_or_else(|| watch::channel(None));
                *put = Some(Put { number, answer });
                QueryStep::Ask(Asking { queries: self, channel, number, answer: sender })
            }
        }
    }
}
