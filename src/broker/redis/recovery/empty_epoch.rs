//! The epoch of all channels without publications.
//!
//! Redis stores nothing for such a channel, however many clients ask for it: all of them are at one
//! empty position, with one epoch for the whole Redis, kept in one key (`PREFIX:{era}:era`). The
//! epoch is lost with Redis' data, and ends before Redis may forget a channel that was published to
//! meanwhile. So a client that comes back with the empty position of an epoch that still counts has
//! missed nothing but what the channel's first history holds.

use std::sync::Arc;

use fred::types::Value;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    broker::{
        Position, epoch,
        redis::{
            commands::{
                call_error::CallError,
                router::{CallOrder, CommandRouter},
            },
            protocol::{
                arguments::millis,
                replies::{self, EmptyEpochs, StreamPosition},
            },
        },
    },
    channel::ChannelName,
    clock::Millis,
    limits::{EMPTY_EPOCH_REREAD, EMPTY_EPOCH_TTL, SHARED_ANSWER_WAIT},
    position::is_same_epoch,
};

/// The process's copy of that epoch.
#[derive(Debug)]
pub(crate) struct EmptyEpoch {
    /// In a cluster the key is on the primary of this channel's slot.
    slot: ChannelName,
    /// Beside it, the moment at which the query for it was sent. Held while a query is on its way:
    /// one is enough.
    pub(crate) read: Mutex<Option<(EmptyEpochs, Millis)>>,
    /// Used where Redis tells none: no client can prove anything by this one.
    own: Arc<str>,
}

impl EmptyEpoch {
    pub(crate) fn new() -> Self {
        Self {
            slot: ChannelName::new("era").expect("it is a name"),
            read: Mutex::default(),
            own: Position::empty(&epoch::random()).epoch,
        }
    }

    /// The position of a channel of which Redis holds nothing now.
    pub(crate) async fn empty(&self, router: &CommandRouter) -> StreamPosition {
        let empty_epochs = self
            .empty_epochs(router, |asked| router.clock.now() - asked < EMPTY_EPOCH_REREAD)
            .await;
        let epoch =
            empty_epochs.map_or_else(|| self.own.clone(), |empty_epochs| empty_epochs.current);
        StreamPosition { position: Position { epoch, offset: 0 }, nonce: 0, ended: Vec::new() }
    }

    /// Whether what was published to a channel since it stood at the empty position of `epoch` is
    /// in the history that it had `at` some moment, if that is its first one.
    pub(super) async fn still_counts(
        &self,
        router: &CommandRouter,
        epoch: &Arc<str>,
        at: Millis,
    ) -> bool {
        let Some(empty_epochs) = self.empty_epochs(router, |asked| asked > at).await else {
            return false;
        };
        let is_it = |empty_epoch: &Arc<str>| is_same_epoch(empty_epoch, epoch);
        is_it(&empty_epochs.current) || empty_epochs.before.as_ref().is_some_and(is_it)
    }

    /// The epochs that count: the known ones if they were asked for when `serves` says, else Redis
    /// is asked. None: it does not tell.
    async fn empty_epochs(
        &self,
        router: &CommandRouter,
        serves: impl Fn(Millis) -> bool,
    ) -> Option<EmptyEpochs> {
        // A shard at a standstill may hold it: then another's answer is not remembered.
        let mut read = timeout(SHARED_ANSWER_WAIT, self.read.lock()).await.ok();
        if let Some(Some((empty_epochs, asked))) = read.as_deref()
            && serves(*asked)
        {
            return Some(empty_epochs.clone());
        }
        let now = router.clock.now();
        match self.read_from(router).await {
            Ok(empty_epochs) => {
                if let Some(read) = read.as_deref_mut() {
                    *read = Some((empty_epochs.clone(), now));
                }
                Some(empty_epochs)
            }
            Err(error) => {
                tracing::debug!(%error, "Redis does not tell the epoch of empty channels");
                None
            }
        }
    }

    async fn read_from(&self, router: &CommandRouter) -> Result<EmptyEpochs, CallError> {
        let slot = &self.slot;
        let candidate = Position::empty(&epoch::random()).epoch;
        let args: Vec<Value> =
            vec![(&*candidate).into(), millis(EMPTY_EPOCH_TTL), millis(EMPTY_EPOCH_TTL / 2)];
        let keys = vec![router.settings.names.empty_epoch(slot)];
        let answer = router
            .call(slot, CallOrder::Query, &router.settings.scripts.empty_epoch, &keys, &args)
            .await?;
        replies::empty_epochs(answer).map_err(CallError::InDoubt)
    }
}
