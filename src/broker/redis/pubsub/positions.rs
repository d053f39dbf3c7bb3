//! The position of a channel, for a client of this handle that has just subscribed to it.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use tokio::time::timeout;

use super::{source::SubscriptionSource, subscriptions::Confirmation};
use crate::{
    broker::{
        Since,
        redis::{
            commands::call_error::CallError,
            protocol::replies::StreamPosition,
            recovery::{position_query::QueryStep, recoverer::Recoverer},
        },
    },
    channel::ChannelName,
    limits::{SHARED_ANSWER_WAIT, SUBSCRIBE_DEADLINE},
    position::Position,
};

/// A handle's queries for positions.
#[derive(Debug)]
pub(in crate::broker::redis) struct Positions {
    recoverer: Rc<Recoverer>,
    source: Rc<SubscriptionSource>,
    /// By what a channel's subscription is confirmed, and the first query for its position that
    /// was sent since.
    confirmed: RefCell<HashMap<ChannelName, (Confirmation, u64)>>,
}

impl Positions {
    pub(in crate::broker::redis) fn new(
        recoverer: Rc<Recoverer>,
        source: Rc<SubscriptionSource>,
    ) -> Self {
        Self { recoverer, source, confirmed: RefCell::default() }
    }

    /// The channel's last client here has left.
    pub(in crate::broker::redis) fn forget(&self, channel: &ChannelName) {
        self.confirmed.borrow_mut().remove(channel);
    }

    pub(in crate::broker::redis) async fn position(
        &self,
        channel: ChannelName,
        since: Option<&Since>,
    ) -> Option<Position> {
        // Clients are here that know no position: another one would begin after messages that are
        // still on their way, and the log drops those.
        if let Some(at) = self.source.begun_at(&channel).filter(|at| has_reached(at, since)) {
            return Some(at);
        }
        // The first query that is sent after now.
        let fresh = self.recoverer.queries.next_query();
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
        let newest = timeout(SUBSCRIBE_DEADLINE, asking).await.ok()??;
        match self.source.begun_at(&channel) {
            // It has begun meanwhile, or the client has more than that: what lies between is still
            // on its way, and the log would drop it for the clients that are here.
            Some(at) if at != newest && !newest.is_empty() => {
                Some(at).filter(|at| has_reached(at, since))
            }
            _ => Some(newest),
        }
    }

    /// The first query that serves this handle, which is subscribed as `heard` says.
    fn serving(&self, channel: &ChannelName, heard: Option<Confirmation>) -> u64 {
        let next = self.recoverer.queries.next_query();
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

    /// The answer to a query whose number is `first` or later.
    async fn stream_position(
        &self,
        channel: &ChannelName,
        first: u64,
        since: Option<&Since>,
    ) -> Result<StreamPosition, CallError> {
        let mut late = None;
        loop {
            match self.recoverer.queries.next_step(channel, first, late) {
                QueryStep::Ask(asking) => {
                    let stream_position =
                        self.recoverer.ask_stream_position(channel, since).await?;
                    asking.answer.send_replace(Some(stream_position.clone()));
                    return Ok(stream_position);
                }
                QueryStep::Share { number, mut answer } => {
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
                QueryStep::Wait { number, mut over, next } => {
                    // Resolves by its end.
                    if timeout(SHARED_ANSWER_WAIT, over.wait_for(|_| false)).await.is_err() {
                        late = Some(number);
                    }
                    // Another query may have been quicker, and have the answer already.
                    if let Some(stream_position) = next.borrow().clone() {
                        return Ok(stream_position);
                    }
                }
            }
        }
    }
}

/// Whether a client that resumes can go on from `at`: it is of its history, and not before it.
fn has_reached(at: &Position, since: Option<&Since>) -> bool {
    match since {
        Some(Since::After(after)) => after.is_comparable(at) && after.offset <= at.offset,
        Some(Since::Newest(_)) | None => true,
    }
}

/// Whether a client resumes from a position that the channel, at `at`, has not reached.
fn is_ahead(since: Option<&Since>, at: &Position) -> bool {
    match since {
        Some(Since::After(after)) => after.is_comparable(at) && after.offset > at.offset,
        Some(Since::Newest(_)) | None => false,
    }
}
