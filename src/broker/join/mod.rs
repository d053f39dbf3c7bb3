//! How a client joins a channel: one operation, in an order that its callers need not know.
//!
//! The client has joined its shard's log before. Then the broker confirms the subscription: from
//! there on nothing is missed. Then the position is known after which everything comes by itself,
//! and what was asked for of the time before is found in the history. Subscribe, position, recover,
//! in this order: any other loses or repeats messages.
//!
//! A query about a channel that several clients of a shard have is asked once, and the number of
//! queries of a shard at a time is bounded. Logs are known only through [`JoinedLog`].

mod lookups;
#[cfg(test)]
mod tests;

use std::{cell::RefCell, collections::HashSet, future::Future, rc::Rc};

use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};

use self::lookups::{Lookup, Lookups};
use super::Broker;
use crate::{
    channel::ChannelName,
    limits::{JOIN_QUERIES_MAX, RESUME_RETRY, RESUME_WAIT},
    position::{Missed, Position, Recovery, Since},
};

/// The log of a channel in a shard, for a client that has joined it: facts that only the shard
/// knows.
pub trait JoinedLog {
    /// The position after which the client hears everything, if that is known. `baseline` is one
    /// after which everything is certain to arrive; it counts unless something has arrived already.
    fn start(&self, baseline: Option<&Position>) -> Option<Position>;

    /// Waits until all is in the log that has been delivered to the shard.
    ///
    /// # Cancel safety
    /// May be dropped.
    fn settled(&self) -> impl Future<Output = ()>;

    /// Waits until the log has got as far as `to`, or has gone on to another epoch, and moves the
    /// client to its head; the position there. None if too many wait.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the place in the queue.
    fn catch_up(&self, to: &Position) -> impl Future<Output = Option<Position>>;
}

/// The state with which a client begins on one channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which one.
    pub channel: ChannelName,
    /// It gets everything after this; None: the channel's position is unknown.
    pub from: Option<Position>,
    /// Up to here from the history, after it from the log; None: nothing from the history.
    pub to: Option<Position>,
    /// It asked for history.
    pub resumed: bool,
    /// The requested messages that it will not get.
    pub missed: Option<Missed>,
}

/// A client has got further elsewhere than this shard, and the shard does not catch up in time:
/// whatever the client was given here, it would get some of it again.
#[derive(Debug, PartialEq, Eq)]
pub struct Behind;

/// The joins of one shard's clients.
pub struct Joins {
    broker: Rc<dyn Broker>,
    /// Room for queries to the broker.
    queries: Semaphore,
    lookups: Lookups,
    /// Channels with clients that were told no position: they begin with what is delivered first.
    unplaced: RefCell<HashSet<ChannelName>>,
}

impl Joins {
    /// The joins of a shard whose handle is `broker`.
    #[must_use]
    pub fn new(broker: Rc<dyn Broker>) -> Self {
        let queries = Semaphore::new(JOIN_QUERIES_MAX);
        Self { broker, queries, lookups: Lookups::default(), unplaced: RefCell::default() }
    }

    /// Subscribes to `channel` and finds out where a client begins on it that wants everything
    /// since `since`, and that has joined `log` already. The messages it missed can be read by
    /// [`super::History::history`] then.
    ///
    /// # Errors
    /// When the shard has not got as far as the client, and does not in time.
    ///
    /// # Cancel safety
    /// May be dropped: what others wait for is asked by one of them.
    pub async fn join(
        &self,
        log: &impl JoinedLog,
        channel: ChannelName,
        since: Option<Since>,
    ) -> Result<Start, Behind> {
        self.broker.confirm_subscription(channel.clone()).await;
        let at = self.begin(log, &channel, since.as_ref()).await;
        match at {
            Some(_) => self.forget(&channel),
            None => drop(self.unplaced.borrow_mut().insert(channel.clone())),
        }
        let Some(since) = since else {
            return Ok(Start { channel, from: at, to: None, resumed: false, missed: None });
        };
        let Some(mut to) = at else {
            let missed = unknown(&since);
            return Ok(Start { channel, from: None, to: None, resumed: true, missed });
        };
        if let Since::After(after) = &since
            && after.is_comparable(&to)
            && after.offset > to.offset
        {
            to = self.catch_up(log, &channel, after).await?.unwrap_or(to);
        }
        let permit = self.queries.acquire().await;
        let recovery = self.broker.recover(channel.clone(), since, to.clone()).await;
        drop(permit);
        let Recovery { from, missed } = recovery;
        Ok(Start { channel, from: Some(from), to: Some(to), resumed: true, missed })
    }

    /// The position after which a client gets everything. A client that resumes is told of a hole
    /// if the position remains unknown: it waits for a moment.
    async fn begin(
        &self,
        log: &impl JoinedLog,
        channel: &ChannelName,
        since: Option<&Since>,
    ) -> Option<Position> {
        let at = self.ask(log, channel, since).await;
        if at.is_some() || since.is_none() {
            return at;
        }
        let again = async {
            loop {
                sleep(RESUME_RETRY).await;
                if let Some(at) = self.ask(log, channel, since).await {
                    return at;
                }
            }
        };
        // Seldom: it need not cost memory where no client waits.
        Box::pin(timeout(RESUME_WAIT, again)).await.ok()
    }

    /// The same, asked once for all clients of the shard that want to know it now.
    async fn ask(
        &self,
        log: &impl JoinedLog,
        channel: &ChannelName,
        since: Option<&Since>,
    ) -> Option<Position> {
        loop {
            // Another client may have found out meanwhile.
            if let Some(at) = log.start(None) {
                return Some(at);
            }
            match self.lookups.of(channel) {
                Lookup::New(lookup) => {
                    let permit = self.queries.acquire().await;
                    let baseline = self.broker.position(channel.clone(), since).await;
                    drop(permit);
                    if baseline.is_some() && self.unplaced.borrow().contains(channel) {
                        // Messages that were delivered before the answer would be dropped, and
                        // all that follow them up to its position.
                        log.settled().await;
                    }
                    let at = log.start(baseline.as_ref());
                    lookup.answered();
                    return at;
                }
                Lookup::Pending(mut answer) => {
                    if answer.changed().await.is_ok() {
                        return log.start(None);
                    }
                    // The client that asked has left before it knew.
                }
            }
        }
    }

    /// Elsewhere a client has got to `after`, further than this shard: its log would repeat what
    /// the client has. Where the log is once it is there, too. None: the client only says so, and
    /// there is nothing to wait for.
    async fn catch_up(
        &self,
        log: &impl JoinedLog,
        channel: &ChannelName,
        after: &Position,
    ) -> Result<Option<Position>, Behind> {
        if self.is_unheard_of(channel, after).await {
            return Ok(None);
        }
        match timeout(RESUME_WAIT, log.catch_up(after)).await {
            Ok(Some(at)) => Ok(Some(at)),
            Ok(None) | Err(_) if self.is_unheard_of(channel, after).await => Ok(None),
            Ok(None) | Err(_) => Err(Behind),
        }
    }

    /// Whether the broker itself, asked now, has not got as far as `position`: then it is none of
    /// this history, and only looks like one.
    async fn is_unheard_of(&self, channel: &ChannelName, position: &Position) -> bool {
        let _permit = self.queries.acquire().await;
        let since = Since::After(position.clone());
        let newest = self.broker.position(channel.clone(), Some(&since)).await;
        newest.is_some_and(|it| it.is_comparable(position) && it.offset < position.offset)
    }

    /// Clients of another process have come with `channels`, and were told no position there.
    pub fn take_unplaced(&self, channels: impl IntoIterator<Item = ChannelName>) {
        self.unplaced.borrow_mut().extend(channels);
    }

    /// All clients of `channel` know where they are, or have left.
    pub fn forget(&self, channel: &ChannelName) {
        self.unplaced.borrow_mut().remove(channel);
    }

    /// Whether nothing is being asked.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.lookups.is_empty() && self.queries.available_permits() == JOIN_QUERIES_MAX
    }
}

/// The gap to be reported when the channel's position is unknown.
fn unknown(since: &Since) -> Option<Missed> {
    match since {
        Since::After(after) => {
            Some(Missed { epoch: None, from: after.offset + 1, to: None, sure: false })
        }
        Since::Newest(0) => None,
        Since::Newest(_) => Some(Missed { epoch: None, from: 1, to: None, sure: false }),
    }
}
