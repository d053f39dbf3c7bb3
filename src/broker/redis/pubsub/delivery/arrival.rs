//! A message that arrives is delivered in its place: after those that it shows to be missing, once,
//! and only if its history is the one before it.

use bytes::Bytes;

use super::{
    Delivery,
    repair::{Before, Diverged, Hole},
    verification::Judged,
};
use crate::{
    broker::{
        Publication,
        history::{Continuity, HistoryMessage, StreamEntry},
        redis::{
            net::connection::ConnectionError,
            protocol::envelope,
            recovery::sequence::{Arrival, Stamp},
        },
    },
    channel::ChannelName,
    position::Position,
};

impl Delivery {
    /// A message arrived on one of our channels.
    pub(crate) async fn publication(
        &self,
        channel: ChannelName,
        name: &str,
        payload: &Bytes,
    ) -> Result<(), ConnectionError> {
        let health = self.health();
        let Some(message) = envelope::decode(payload) else {
            health.foreign.add(1);
            tracing::debug!(%channel, "dropped what is no publication of ours");
            return Ok(());
        };
        let envelope::Envelope { kind, epoch, offset, nonce, previous, data } = message;
        self.make_room(data.len()).await;
        let stamp = Stamp { epoch, offset, nonce, previous };
        let Some(Judged { arrival, newest, sure }) =
            self.judge_message(&channel, name, &stamp).await?
        else {
            return Ok(());
        };
        let hole = |from, before| Hole {
            epoch: epoch.into(),
            from,
            to: offset - 1,
            before,
            last: previous,
            next: Some(nonce),
            sure,
        };
        let repaired = match arrival {
            Arrival::Next | Arrival::Early => Ok(()),
            Arrival::Duplicate => {
                health.duplicates.add(1);
                return Ok(());
            }
            Arrival::Jump(from) => {
                self.repair(&channel, name, hole(from, Before::message(newest))).await
            }
            Arrival::FirstEpoch => {
                let before = self.before_first(name, self.now()).await;
                self.repair(&channel, name, hole(1, before)).await
            }
            Arrival::NewEpoch => self.repair(&channel, name, hole(1, Before::Epoch)).await,
            Arrival::Late { .. } | Arrival::Diverged => Err(Diverged),
        };
        let position = Position { epoch: epoch.into(), offset };
        let kept = HistoryMessage { kind, data: data.clone(), nonce };
        let is_one_history = repaired.is_ok()
            && self.memory().add_live(&channel, StreamEntry { position, previous, kept })
                == Continuity::Known;
        if !is_one_history {
            // It is not delivered: unless it was here, it is lost.
            let sure = !matches!(arrival, Arrival::Late { is_new: false });
            return self.diverged(&channel, name, epoch, sure).await;
        }
        let position =
            self.with_tracker(name, |tracker| tracker.advance(epoch, offset, nonce, self.now()));
        if position.is_some() {
            self.sink.deliver(Publication { channel, kind, data, position });
        }
        Ok(())
    }

    /// The same for one that has waited while the process was handed over: the other process may
    /// have had it.
    pub(crate) async fn publication_held(
        &self,
        channel: ChannelName,
        name: &str,
        payload: &Bytes,
    ) -> Result<(), ConnectionError> {
        let was_there = envelope::decode(payload).is_some_and(|it| {
            self.with_tracker(name, |tracker| tracker.is_past(it.epoch, it.offset, it.nonce))
                == Some(true)
        });
        if was_there {
            return Ok(());
        }
        self.publication(channel, name, payload).await
    }
}
