//! What the position of a channel is worth that nobody has published to.
//!
//! Redis holds nothing of such a channel, however many ask for it: all of them stand at one empty
//! position, which names the era that Redis is in, the same for every process. An era is lost with
//! Redis' data, and over before a channel that was published to in it may be forgotten. So whoever
//! comes back with the empty position of an era that still counts has missed nothing but what the
//! channel's first history holds. One key for all channels: listeners store nothing.

use std::sync::Arc;

use fred::types::Value;
use tokio::{sync::Mutex, time::timeout};

use crate::{
    broker::{
        Position, epoch,
        redis::{
            commands::{
                call_error::CallError,
                router::{CommandRouter, Way},
            },
            protocol::{
                arguments::millis,
                replies::{self, Eras, StreamPosition},
            },
        },
    },
    channel::ChannelName,
    clock::{self, Millis},
    limits::{REDIS_ERA_REREAD, REDIS_ERA_TTL, SHARED_ANSWER_WAIT},
    position::is_same_epoch,
};

/// What a process knows of Redis' era.
#[derive(Debug)]
pub(crate) struct Era {
    /// In a cluster the key is on the master of this one's slot.
    home: ChannelName,
    /// With when the question for it was put. Held while one is on its way: one is enough.
    pub(crate) read: Mutex<Option<(Eras, Millis)>>,
    /// Where Redis tells none: nobody can prove anything by this.
    own: Arc<str>,
}

impl Era {
    pub(crate) fn new() -> Self {
        Self {
            home: ChannelName::new("era").expect("it is a name"),
            read: Mutex::default(),
            own: Position::empty(&epoch::random()).epoch,
        }
    }

    /// Where a channel stands now of which Redis holds nothing.
    pub(crate) async fn empty(&self, router: &CommandRouter) -> StreamPosition {
        let eras = self.eras(router, |asked| clock::now() - asked < REDIS_ERA_REREAD).await;
        let epoch = eras.map_or_else(|| self.own.clone(), |eras| eras.current);
        StreamPosition { position: Position { epoch, offset: 0 }, nonce: 0, ended: Vec::new() }
    }

    /// Whether what was published to a channel since it stood at the empty position of `epoch` is
    /// in the history that it had `at` some moment, if that is its first one.
    pub(crate) async fn still_counts(
        &self,
        router: &CommandRouter,
        epoch: &Arc<str>,
        at: Millis,
    ) -> bool {
        let Some(eras) = self.eras(router, |asked| asked > at).await else { return false };
        let is_it = |era: &Arc<str>| is_same_epoch(era, epoch);
        is_it(&eras.current) || eras.before.as_ref().is_some_and(is_it)
    }

    /// The eras that count: those known if the question for them was put when `serves` says, else
    /// Redis is asked. None: it does not tell.
    async fn eras(&self, router: &CommandRouter, serves: impl Fn(Millis) -> bool) -> Option<Eras> {
        // A shard at a standstill may hold it: then somebody else's answer is not remembered.
        let mut read = timeout(SHARED_ANSWER_WAIT, self.read.lock()).await.ok();
        if let Some(Some((eras, asked))) = read.as_deref()
            && serves(*asked)
        {
            return Some(eras.clone());
        }
        let now = clock::now();
        match self.read_from(router).await {
            Ok(eras) => {
                if let Some(read) = read.as_deref_mut() {
                    *read = Some((eras.clone(), now));
                }
                Some(eras)
            }
            Err(error) => {
                tracing::debug!(?error, "Redis does not tell its era");
                None
            }
        }
    }

    async fn read_from(&self, router: &CommandRouter) -> Result<Eras, CallError> {
        let home = &self.home;
        let candidate = Position::empty(&epoch::random()).epoch;
        let args: Vec<Value> =
            vec![(&*candidate).into(), millis(REDIS_ERA_TTL), millis(REDIS_ERA_TTL / 2)];
        let keys = vec![router.settings.names.era(home)];
        let answer =
            router.call(home, Way::Beside, &router.settings.scripts.era, keys, args).await?;
        replies::eras(answer).map_err(CallError::InDoubt)
    }
}
