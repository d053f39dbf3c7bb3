//! What the tasks of one shard share: the clients and the broker's handle, on one thread.
//!
//! [`Core::with`] is the only way to the clients: it borrows, runs, gives the borrow back, and
//! then carries out what the table asked for. So no borrow lives across an await, and no request
//! is forgotten.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::{sync::Notify, task::yield_now};
use tracing::debug;

use super::{admit, ahead::Ahead, settling::Settling};
use crate::{
    broker::{Broker, IdempotencyKey, Message, PublishError, Receipt},
    conn::{Clients, Offered, OwnMessage, Request, Step},
    drain::{Control, Guard},
    hub::Key,
    limits::REPLAY_PIECE_BYTES,
    metrics::{PublishFailure, ShardMetrics, Source},
};

/// One shard's shared state. Never leaves its thread.
pub(super) struct Core {
    clients: RefCell<Clients>,
    broker: Rc<dyn Broker>,
    metrics: Arc<ShardMetrics>,
    /// Wakes the event loop: some clients are to be read further.
    pub(super) again: Notify,
    /// Who waits until a log has got somewhere.
    pub(super) ahead: Ahead,
    /// Wakes the shutdown: the last client has left.
    pub(super) emptied: Notify,
    /// What clients that come are waiting for.
    pub(super) settling: Rc<Settling>,
    control: Arc<Control>,
}

impl Core {
    pub(super) fn new(
        clients: Clients,
        broker: Rc<dyn Broker>,
        metrics: Arc<ShardMetrics>,
        control: Arc<Control>,
    ) -> Rc<Self> {
        Rc::new(Self {
            clients: RefCell::new(clients),
            broker,
            metrics,
            again: Notify::new(),
            ahead: Ahead::default(),
            emptied: Notify::new(),
            settling: Settling::new(),
            control,
        })
    }

    pub(super) fn broker(&self) -> &Rc<dyn Broker> {
        &self.broker
    }

    /// Runs `act` on the clients, then does what they asked for.
    pub(super) fn with<R>(self: &Rc<Self>, act: impl FnOnce(&mut Clients) -> R) -> R {
        let (result, requests, more_to_read, empty) = {
            let mut clients = self.clients.borrow_mut();
            let result = act(&mut clients);
            let requests = clients.take_requests();
            (result, requests, clients.has_again(), clients.is_empty())
        };
        for request in requests {
            self.carry_out(request);
        }
        if more_to_read {
            self.again.notify_one();
        }
        if empty {
            self.emptied.notify_one();
        }
        result
    }

    fn carry_out(self: &Rc<Self>, request: Request) {
        match request {
            Request::Abandoned(channel) => {
                // Somebody new may have come for it since.
                if !self.clients.borrow().has_channel(channel.as_str()) {
                    self.broker.unsubscribe(&channel);
                }
            }
            Request::Replay(key) => {
                let core = self.clone();
                // A task of its own: others have their turn between two pieces.
                tokio::task::spawn_local(async move { core.replay(key) });
            }
            Request::Offer(key, offered) => {
                // Its client may leave meanwhile; the process does not.
                let guard = self.control.barrier.request();
                tokio::task::spawn_local(self.clone().do_all(key, offered, guard));
            }
        }
    }

    /// Gives a client the next piece of what it missed.
    fn replay(self: &Rc<Self>, key: Key) {
        let Some(step) = self.clients.borrow().next_step(key) else { return };
        let Step { channel, after, to } = step;
        let piece = self.broker.history(&channel, &after, to, REPLAY_PIECE_BYTES);
        self.with(|clients| clients.replayed(key, piece));
    }

    /// Does what a client wants, one thing after the other, so that it keeps its order.
    async fn do_all(self: Rc<Self>, key: Key, first: Offered, guard: Guard) {
        let mut next = Some(first);
        while let Some(offered) = next {
            match offered {
                Offered::Message(message) => self.publish(key, message).await,
                Offered::Subscription(wanted) => admit::subscribe(&self, key, wanted).await,
                Offered::Departure(_) | Offered::Ping => {}
            }
            next = self.with(|clients| clients.next_offer(key));
            if next.is_some() {
                // A broker that answers at once must not keep the thread.
                yield_now().await;
            }
        }
        drop(guard);
    }

    async fn publish(self: &Rc<Self>, key: Key, message: OwnMessage) {
        let OwnMessage { who, channel, kind, data, id } = message;
        let message = Message { who, channel: channel.clone(), kind, data, key: id.clone() };
        let result = self.broker.publish(message).await;
        let id = id.as_ref().map(IdempotencyKey::as_str);
        self.with(|clients| clients.published(key, &channel, id, &result));
        self.count(key, result);
    }

    fn count(&self, key: Key, result: Result<Receipt, PublishError>) {
        let failure = match result {
            Ok(receipt) => {
                return self.metrics.published.add(Source::Client, receipt.scope(), 1);
            }
            Err(failure) => failure,
        };
        debug!(client = key.to_u64(), %failure, "a client's message was not published");
        self.metrics.publish_failures.add(PublishFailure::from(&failure) as usize, 1);
    }
}
