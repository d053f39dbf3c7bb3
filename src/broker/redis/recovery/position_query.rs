//! Where a channel stands is asked once for all who want to know it at the same time.
//!
//! An answer serves whoever was subscribed before the question was put: what the answer does not
//! know of arrives. So all handshakes of a shard share one question, and shards that subscribe
//! while one is on its way share the next. For somebody who resumes the history comes along with
//! the answer. However many clients come back at once, Redis is asked once per shard at most, and
//! twice if all shards are wanted at the same time. A shard at a standstill holds nobody up: those
//! who have waited for its answer for long put a question of their own.

use std::collections::HashMap;

use fred::types::Value;
use tokio::{sync::watch, time::timeout};

use crate::{
    broker::{
        Since,
        history::Continuity,
        redis::{
            RedisBroker,
            commands::{call_error::CallError, connectivity::Link, router::Way},
            process::Process,
            protocol::{
                arguments,
                replies::{self, StreamPosition},
            },
            pubsub::subscriptions::Confirmation,
        },
    },
    channel::ChannelName,
    limits::{SHARED_ANSWER_WAIT, SUBSCRIBE_DEADLINE},
    position::Position,
    telemetry::seldom,
};

/// The questions of a process that have no answer yet.
#[derive(Debug, Default)]
pub(crate) struct PositionQueries {
    /// How many were put.
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

/// What somebody who wants to know is to do.
enum Turn<'a> {
    /// Put the question.
    Ask(Asking<'a>),
    /// The answer to the one that was put will serve.
    Share { number: u64, answer: AnswerReceiver },
    /// It will not: once it is `over`, the `next` one's will.
    Wait { number: u64, over: AnswerReceiver, next: AnswerReceiver },
}

/// The question of one channel on its way; over when dropped, however it went.
struct Asking<'a> {
    process: &'a Process,
    channel: &'a ChannelName,
    number: u64,
    answer: AnswerSender,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let open = &mut self.process.memory().queries.open;
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
    /// Nobody wants to know of `channel` any more.
    pub(crate) fn forget(&mut self, channel: &ChannelName) {
        self.open.remove(channel);
    }
}

impl Process {
    /// The number of the next question.
    fn next_question(&self) -> u64 {
        self.memory().queries.count + 1
    }

    /// For somebody whom questions from the number `first` on serve, and who has waited for the
    /// one of the number `late` for long: whoever put that one may be at a standstill.
    fn turn<'a>(&'a self, channel: &'a ChannelName, first: u64, late: Option<u64>) -> Turn<'a> {
        let queries = &mut self.memory().queries;
        let Open { put, next } = queries.open.entry(channel.clone()).or_default();
        match put.as_ref().filter(|put| Some(put.number) != late) {
            Some(Put { number, answer }) if *number >= first => {
                Turn::Share { number: *number, answer: answer.clone() }
            }
            Some(Put { number, answer: over }) => {
                let (_, next) = next.get_or_insert_with(|| watch::channel(None));
                Turn::Wait { number: *number, over: over.clone(), next: next.clone() }
            }
            None => {
                queries.count += 1;
                let number = queries.count;
                let (sender, answer) = next.take().unwrap_or_else(|| watch::channel(None));
                *put = Some(Put { number, answer });
                Turn::Ask(Asking { process: self, channel, number, answer: sender })
            }
        }
    }

    /// Where `channel` stands, for somebody who comes with `since`. What Redis says must be of one
    /// history with what is here.
    pub(crate) async fn ask_stream_position(
        &self,
        link: &Link,
        channel: &ChannelName,
        since: Option<&Since>,
    ) -> Result<StreamPosition, CallError> {
        let mut args: Vec<Value> = Vec::new();
        let reading = since.and_then(|since| self.begin_reading(channel, since));
        if let Some((_, epoch, first, depth)) = &reading {
            args.extend([(&**epoch).into(), (first - 1).to_string().into()]);
            args.extend(arguments::reading(&self.settings.history, *first, *depth));
        }
        let keys = self.settings.names.keys(channel);
        let answer = match link
            .call(channel, Way::Beside, &self.settings.scripts.position, keys, args)
            .await
        {
            Err(CallError::Refused(error)) if reading.is_some() => {
                seldom!(warn, "Redis refuses to tell the history", %channel, %error);
                return self.stream_position(link, channel).await;
            }
            answer => answer?,
        };
        let answer = replies::stream_position_and_history(answer).map_err(CallError::InDoubt)?;
        let Some((stream_position, read)) = answer else {
            return Ok(self.empty(link).await);
        };
        let continuity = match (read, &reading) {
            (Some(read), Some((flight, _, first, depth))) => {
                flight.has_brought(&read);
                self.take_in(channel, read, *first, *depth)
            }
            _ if self.has_replaced(channel, &stream_position.position.epoch) => {
                Continuity::Diverged
            }
            _ => Continuity::Known,
        };
        match continuity {
            Continuity::Known => Ok(stream_position),
            Continuity::Diverged => self.end(link, channel, &stream_position.position.epoch).await,
        }
    }
}

impl RedisBroker {
    pub(crate) async fn position_now(
        &self,
        channel: ChannelName,
        since: Option<&Since>,
    ) -> Option<Position> {
        // The first question that is put after now.
        let fresh = self.process().next_question();
        let asking = async {
            // The second answer is certain, unless the connection has just ended.
            for _ in 0..2 {
                let before = self.source.confirmed_on(&channel);
                let serving = self.serving(&channel, before);
                let mut newest = self.stream_position(&channel, serving, since).await.ok()?;
                if serving < fresh && is_ahead(since, &newest.position) {
                    // The answer may be older than what was heard elsewhere since.
                    newest = self.stream_position(&channel, fresh, since).await.ok()?;
                }
                // Else messages arrived that the answer does not know, and some before them may
                // not have.
                if self.source.set_baseline(&channel, &newest, before).await {
                    return Some(newest.position);
                }
            }
            None
        };
        timeout(SUBSCRIBE_DEADLINE, asking).await.ok()?
    }

    /// The first question that serves this handle, which is subscribed as `heard` says.
    fn serving(&self, channel: &ChannelName, heard: Option<Confirmation>) -> u64 {
        let next = self.process().next_question();
        let Some(heard) = heard else { return next };
        let mut confirmed = self.confirmed.borrow_mut();
        match confirmed.get(channel) {
            Some((known, first)) if *known == heard => *first,
            _ => {
                confirmed.insert(channel.clone(), (heard, next));
                next
            }
        }
    }

    /// What a question says whose number is `first` or later.
    async fn stream_position(
        &self,
        channel: &ChannelName,
        first: u64,
        since: Option<&Since>,
    ) -> Result<StreamPosition, CallError> {
        let mut late = None;
        loop {
            match self.process().turn(channel, first, late) {
                Turn::Ask(asking) => {
                    let stream_position =
                        self.process().ask_stream_position(&self.link, channel, since).await?;
                    asking.answer.send_replace(Some(stream_position.clone()));
                    return Ok(stream_position);
                }
                Turn::Share { number, mut answer } => {
                    match timeout(SHARED_ANSWER_WAIT, answer.wait_for(Option::is_some)).await {
                        Ok(Ok(stream_position)) => {
                            if let Some(stream_position) = stream_position.clone() {
                                return Ok(stream_position);
                            }
                        }
                        // Without an answer: ask.
                        Ok(Err(_)) => {}
                        Err(_) => late = Some(number),
                    }
                }
                Turn::Wait { number, mut over, next } => {
                    // Resolves by its end.
                    if timeout(SHARED_ANSWER_WAIT, over.wait_for(|_| false)).await.is_err() {
                        late = Some(number);
                    }
                    // Somebody else may have been quicker, and have the answer already.
                    if let Some(stream_position) = next.borrow().clone() {
                        return Ok(stream_position);
                    }
                }
            }
        }
    }
}

/// Whether somebody comes with a position that the channel, at `at`, has not got to.
fn is_ahead(since: Option<&Since>, at: &Position) -> bool {
    match since {
        Some(Since::After(after)) => after.is_comparable(at) && after.offset > at.offset,
        Some(Since::Newest(_)) | None => false,
    }
}
