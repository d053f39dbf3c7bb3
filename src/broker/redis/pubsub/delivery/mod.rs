//! Messages that arrive on a subscription are put in order: doubtful ones are compared with Redis,
//! and missing ones are fetched before anything newer is delivered.
//!
//! | file | what it does |
//! |---|---|
//! | `arrival` | a message that arrives, to its delivery |
//! | `verification` | a message that does not simply follow: whether Redis knows it |
//! | `catch_up` | a comparison with Redis' position after each subscription |
//! | `repair` | missing messages, fetched or reported |
//! | `leveling` | what other shards have had, before a hand-over |
//! | `divergence` | the end of an epoch that stands for two histories |

mod arrival;
mod catch_up;
mod divergence;
mod leveling;
mod repair;
mod verification;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{shared::SharedSubscriber, subscriptions::Subscriptions};
use crate::{
    broker::{
        Health, Missed, Sink,
        redis::recovery::{memory::Memory, recoverer::Recoverer, sequence::SequenceTracker},
    },
    channel::ChannelName,
    clock::Millis,
    telemetry::seldom,
};

/// The way from one connection's subscriptions into a sink.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) recoverer: Rc<Recoverer>,
    pub(super) sink: Arc<dyn Sink>,
    /// The shards that it is for, where the first one subscribes for all.
    pub(super) shared: Option<Arc<SharedSubscriber>>,
    subscriptions: Rc<RefCell<Subscriptions>>,
}

impl Delivery {
    pub(crate) fn new(
        recoverer: Rc<Recoverer>,
        sink: Arc<dyn Sink>,
        subscriptions: Rc<RefCell<Subscriptions>>,
    ) -> Self {
        Self { recoverer, sink, shared: None, subscriptions }
    }

    fn now(&self) -> Millis {
        self.recoverer.router.clock.now()
    }

    fn memory(&self) -> &Memory {
        &self.recoverer.memory
    }

    fn health(&self) -> &Health {
        &self.recoverer.router.health
    }

    async fn make_room(&self, bytes: usize) {
        if !self.sink.has_room(bytes) {
            self.sink.room().await;
        }
    }

    fn gap(&self, channel: &ChannelName, missed: Missed) {
        self.health().count_gap();
        let Missed { epoch, from, to, .. } = &missed;
        let epoch = epoch.as_deref().unwrap_or("unknown");
        let to = to.map_or("unknown".to_owned(), |to| to.to_string());
        seldom!(
            warn,
            "messages were lost between Redis and this process",
            %channel,
            epoch,
            from,
            to
        );
        self.sink.gap(channel, missed);
    }

    /// The tracker of a channel that is still wanted.
    pub(crate) fn with_tracker<R>(
        &self,
        name: &str,
        act: impl FnOnce(&mut SequenceTracker) -> R,
    ) -> Option<R> {
        let mut subscriptions = self.subscriptions.borrow_mut();
        subscriptions.get_mut(name).map(|known| act(&mut known.tracker))
    }
}
