//! A handle's queries to Redis about the past of a channel: its position, the part of its history
//! that is missing in the process's memory, and whether two histories share an epoch.

use std::{rc::Rc, sync::Arc};

use fred::types::Value;
use tokio::time::timeout;

use super::{
    empty_epoch::EmptyEpoch,
    memory::{Memory, Span},
    position_query::PositionQueries,
    stream_reader::StreamReader,
};
use crate::{
    broker::{
        Recovery, Since, epoch,
        history::Continuity,
        redis::{
            commands::{
                call_error::CallError,
                router::{CallOrder, CommandRouter},
            },
            protocol::{
                arguments::{self, millis},
                envelope,
                replies::{self, Ended, StreamPosition},
            },
        },
    },
    channel::ChannelName,
    clock::Millis,
    limits::{REDIS_META_TTL, RETIRED_EPOCHS_MAX, SUBSCRIBE_DEADLINE},
    position::{Position, is_empty_epoch},
    telemetry::seldom,
};

/// A handle's access to the past of channels.
#[derive(Debug)]
pub(crate) struct Recoverer {
    pub(crate) router: Rc<CommandRouter>,
    pub(crate) reader: StreamReader,
    pub(crate) memory: Arc<Memory>,
    pub(crate) queries: Arc<PositionQueries>,
    empty_epoch: Arc<EmptyEpoch>,
}

impl Recoverer {
    pub(crate) fn new(
        router: Rc<CommandRouter>,
        memory: Arc<Memory>,
        queries: Arc<PositionQueries>,
        empty_epoch: Arc<EmptyEpoch>,
    ) -> Self {
        let reader = StreamReader::new(router.clone(), memory.clone());
        Self { router, reader, memory, queries, empty_epoch }
    }

    /// The position of a channel of which Redis holds nothing now.
    pub(crate) async fn empty(&self) -> StreamPosition {
        self.empty_epoch.empty(&self.router).await
    }

    /// See [`EmptyEpoch::still_counts`].
    pub(crate) async fn still_counts(&self, epoch: &Arc<str>, at: Millis) -> bool {
        self.empty_epoch.still_counts(&self.router, epoch, at).await
    }

    /// The position of `channel` in Redis.
    pub(crate) async fn stream_position(
        &self,
        channel: &ChannelName,
    ) -> Result<StreamPosition, CallError> {
        let keys = self.router.settings.names.keys(channel);
        let answer = self
            .router
            .call(channel, CallOrder::Query, &self.router.settings.scripts.position, &keys, &[])
            .await?;
        match replies::stream_position_and_history(answer).map_err(CallError::InDoubt)? {
            Some((stream_position, _)) => Ok(stream_position),
            None => Ok(self.empty().await),
        }
    }

    /// Ends `epoch` of `channel`, unless that has been done; returns the channel's position then.
    /// `heard`: the position of a client here in another epoch.
    pub(crate) async fn rotate(
        &self,
        channel: &ChannelName,
        epoch: &str,
        heard: Option<Ended>,
    ) -> Result<StreamPosition, CallError> {
        let newest = self.memory.newest(channel);
        let is_other = |it: &Ended| *it.position.epoch != *epoch && it.position.offset > 0;
        let heard = heard.into_iter().chain(newest).filter(is_other);
        let heard: String = heard.map(|it| format!(",{}:{}", it.position, it.nonce)).collect();
        let args: Vec<Value> = vec![
            epoch::random().into(),
            millis(REDIS_META_TTL),
            epoch.into(),
            envelope::nonce().to_string().into(),
            RETIRED_EPOCHS_MAX.to_string().into(),
            heard.into(),
        ];
        let keys = self.router.settings.names.keys(channel);
        let answer = self
            .router
            .call(channel, CallOrder::Unordered, &self.router.settings.scripts.rotate, &keys, &args)
            .await?;
        replies::stream_position(answer).map_err(CallError::InDoubt)
    }

    /// Ends an epoch that stands for two histories; returns the channel's position then. Shards
    /// learn of it by the next message.
    pub(super) async fn end(
        &self,
        channel: &ChannelName,
        epoch: &str,
    ) -> Result<StreamPosition, CallError> {
        let stream_position = self.rotate(channel, epoch, None).await?;
        self.memory.forget(channel, epoch);
        Ok(stream_position)
    }

    /// The position of `channel`, for a client that comes with `since`. Redis' answer must be of
    /// one history with the present content.
    pub(crate) async fn ask_stream_position(
        &self,
        channel: &ChannelName,
        since: Option<&Since>,
    ) -> Result<StreamPosition, CallError> {
        let mut args: Vec<Value> = Vec::new();
        let reading = since.and_then(|since| self.reader.begin_reading(channel, since));
        if let Some((_, epoch, first, depth)) = &reading {
            args.extend([(&**epoch).into(), (first - 1).to_string().into()]);
            args.extend(arguments::reading(&self.router.settings.history, *first, *depth));
        }
        let keys = self.router.settings.names.keys(channel);
        let answer = match self
            .router
            .call(channel, CallOrder::Query, &self.router.settings.scripts.position, &keys, &args)
            .await
        {
            Err(CallError::Refused(error)) if reading.is_some() => {
                seldom!(
                    warn,
                    "Redis refuses to tell the history",
                    %channel,
                    error = error.details()
                );
                return self.stream_position(channel).await;
            }
            answer => answer?,
        };
        let answer = replies::stream_position_and_history(answer).map_err(CallError::InDoubt)?;
        let Some((stream_position, read)) = answer else {
            return Ok(self.empty().await);
        };
        let continuity = match (read, &reading) {
            (Some(read), Some((flight, _, first, depth))) => {
                flight.has_brought(&read);
                self.reader.take_in(channel, read, *first, *depth)
            }
            _ if self.memory.has_replaced(channel, &stream_position.position.epoch) => {
                Continuity::Diverged
            }
            _ => Continuity::Known,
        };
        match continuity {
            Continuity::Known => Ok(stream_position),
            Continuity::Diverged => self.end(channel, &stream_position.position.epoch).await,
        }
    }

    /// Whether all that was published to `channel` since it stood at the empty position `since` is
    /// in the history that it has at `to`.
    pub(super) async fn begins_after(
        &self,
        channel: &ChannelName,
        since: &Position,
        to: &Position,
    ) -> Result<bool, CallError> {
        let is_first = if to.is_empty() {
            true
        } else if let Some(root) = self.memory.nonce_at(channel, &to.epoch, 0) {
            root == 0
        } else if to.offset == 0 {
            let StreamPosition { position, nonce, .. } = self.stream_position(channel).await?;
            position == *to && nonce == 0
        } else {
            // Its beginning is not kept: some of it is missing in any case.
            false
        };
        Ok(is_first && self.still_counts(&since.epoch, self.router.clock.now()).await)
    }

    /// The available messages of `channel`'s history since `since`, up to `to`, after Redis was
    /// asked for those missing here.
    pub(crate) async fn recover(
        &self,
        channel: &ChannelName,
        since: &Since,
        to: &Position,
    ) -> Recovery {
        let after = match since {
            Since::After(after) if after.is_comparable(to) && after.offset <= to.offset => {
                after.offset
            }
            // A position of another history: all of this one is wanted.
            Since::After(_) => 0,
            Since::Newest(count) => to.offset.saturating_sub(*count as u64),
        };
        let mut since = since.clone();
        let covering = async {
            let span = Span { epoch: &to.epoch, after, to: to.offset };
            if self.reader.cover(channel, span, false).await? == Continuity::Diverged {
                self.end(channel, &to.epoch).await?;
            }
            if let Since::After(after) = &since
                && is_empty_epoch(&after.epoch)
                && !after.is_comparable(to)
                && after.offset <= to.offset
                && self.begins_after(channel, after, to).await?
            {
                // All of this history is missing, except for the messages counted since then.
                since = Since::After(Position { epoch: to.epoch.clone(), offset: after.offset });
            }
            Ok::<_, CallError>(())
        };
        match timeout(SUBSCRIBE_DEADLINE, covering).await {
            Ok(Ok(())) => {}
            Ok(Err(CallError::Refused(error))) => {
                seldom!(
                    warn,
                    "Redis refuses to tell the history",
                    %channel,
                    error = error.details()
                );
            }
            Ok(Err(error)) => tracing::debug!(%channel, %error, "the history cannot be read"),
            Err(_) => tracing::debug!(%channel, "the history was not read in time"),
        }
        self.memory.recovery(channel, &since, to)
    }
}
