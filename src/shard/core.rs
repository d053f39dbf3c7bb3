//! The state shared by the tasks of one shard: the clients and the broker's handle, on one thread.
//!
//! [`Core::with`] is the only way to the clients: it borrows, runs, gives the borrow back, and
//! then carries out what the table asked for. So no borrow lives across an await, and no request
//! is forgotten.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use tokio::sync::Notify;

use super::{ahead::Ahead, gate::Gate, join_limiter::JoinLimiter, mailbox::Mailbox};
use crate::{
    broker::{Broker, Joins},
    clock::Clock,
    conn::{ConnectionTable, Request},
    metrics::ShardMetrics,
    token::Verifier,
};

/// Does what the table of clients asks the shard for; it must not borrow the table meanwhile.
pub(super) type CarryOut = fn(&Rc<Core>, Request);

/// One shard's shared state. Never leaves its thread.
pub(super) struct Core {
    pub(super) clock: Clock,
    pub(super) clients: RefCell<ConnectionTable>,
    pub(super) broker: Rc<dyn Broker>,
    /// Mail on its way into the clients' logs.
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) metrics: Arc<ShardMetrics>,
    /// Wakes the event loop: some clients have more to be served.
    pub(super) follow_ups: Notify,
    /// Clients that wait until a log has got somewhere.
    pub(super) ahead: Ahead,
    /// Wakes the shutdown: the last client has left.
    pub(super) emptied: Notify,
    /// How many of the newcomers' channels are joined at a time.
    pub(super) join_limiter: JoinLimiter,
    /// Finds out where clients begin.
    pub(super) joins: Joins,
    /// Closed while nobody is accepted.
    pub(super) entrance: Rc<Gate>,
    /// Closed while nothing is read from clients.
    pub(super) input: Rc<Gate>,
    /// Closed while nothing may change: nothing is written to clients either.
    pub(super) output: Rc<Gate>,
    /// Something that was under way for a client has come to its end.
    pub(super) settled: Notify,
    /// Verifies the tokens that clients show.
    pub(super) verifier: Arc<Verifier>,
    /// Does what the table asks for.
    carry_out: CarryOut,
}

impl Core {
    pub(super) fn new(
        clock: Clock,
        clients: ConnectionTable,
        broker: Rc<dyn Broker>,
        mailbox: Arc<Mailbox>,
        metrics: Arc<ShardMetrics>,
        verifier: Arc<Verifier>,
        carry_out: CarryOut,
    ) -> Rc<Self> {
        Rc::new(Self {
            clock,
            clients: RefCell::new(clients),
            joins: Joins::new(broker.clone()),
            broker,
            mailbox,
            metrics,
            follow_ups: Notify::new(),
            ahead: Ahead::default(),
            emptied: Notify::new(),
            entrance: Rc::default(),
            input: Rc::default(),
            output: Rc::default(),
            settled: Notify::new(),
            join_limiter: JoinLimiter::new(),
            verifier,
            carry_out,
        })
    }

    /// Nothing begins.
    pub(super) fn close_entrance(&self) {
        self.entrance.close();
        self.input.close();
    }

    /// The same once the output gate is open: for what has waited for others meanwhile.
    pub(super) async fn with_open<R>(
        self: &Rc<Self>,
        act: impl FnOnce(&mut ConnectionTable) -> R,
    ) -> R {
        self.output.opened().await;
        self.with(act)
    }

    /// Runs `act` on the clients, then does what they requested.
    pub(super) fn with<R>(self: &Rc<Self>, act: impl FnOnce(&mut ConnectionTable) -> R) -> R {
        let (result, requests, has_follow_ups, empty) = {
            let mut clients = self.clients.borrow_mut();
            let result = act(&mut clients);
            let requests = clients.take_requests();
            (result, requests, clients.has_follow_ups(), clients.is_empty())
        };
        for request in requests {
            (self.carry_out)(self, request);
        }
        if has_follow_ups {
            self.follow_ups.notify_one();
        }
        if empty {
            self.emptied.notify_one();
        }
        result
    }
}
