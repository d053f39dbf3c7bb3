//! Requests that the table of clients cannot execute by itself: subscriptions, clients' messages.
//!
//! The table asks, [`Core::with`] hands it on, and here it is done, each in a task of its own, so
//! that no borrow of the table lives across an await.

use std::rc::Rc;

use tokio::task::yield_now;
use tracing::debug;

use super::{admit, core::Core};
use crate::{
    broker::{IdempotencyKey, Message, PublishError, Receipt},
    conn::{ClientCommand, ClientMessage, HiddenToken, Request, VerifiedToken},
    drain::Guard,
    hub::Key,
    metrics::{PublishFailure, Source},
};

/// Does what the table asks for.
pub(super) fn carry_out(core: &Rc<Core>, request: Request) {
    match request {
        Request::Abandoned(channel) => {
            // A new client may have come for it since.
            if !core.clients.borrow().has_channel(channel.as_str()) {
                core.joins.forget(&channel);
                core.broker.unsubscribe(&channel);
            }
        }
        // Its client may leave meanwhile; the process does not.
        Request::Command(key, command, guard) => {
            tokio::task::spawn_local(run_commands(core.clone(), key, command, guard));
        }
    }
}

/// Runs a client's commands, one after the other, so that they keep their order.
async fn run_commands(core: Rc<Core>, key: Key, first: ClientCommand, guard: Guard) {
    let mut next = Some(first);
    while let Some(command) = next {
        match command {
            ClientCommand::Publish(message) => publish(&core, key, message).await,
            ClientCommand::Token(token) => renew(&core, key, &token).await,
            ClientCommand::Subscribe(wanted) => admit::subscribe(&core, key, wanted).await,
            ClientCommand::Unsubscribe(_) | ClientCommand::Ping => {}
        }
        next = core.with_open(|clients| clients.next_command(key)).await;
        if next.is_some() {
            // A broker that answers at once must not keep the thread.
            yield_now().await;
        }
    }
    drop(guard);
    core.settled.notify_one();
}

/// Verifies a token that a client shows in place of its earlier one.
async fn renew(core: &Rc<Core>, key: Key, token: &HiddenToken) {
    let verified = core.verifier.verify(token.expose()).await;
    let now = core.clock.now();
    let verified = verified.map(|rights| VerifiedToken::new(rights, now, core.clock.unix_time()));
    core.with_open(|clients| clients.renewed(key, verified, now)).await;
}

async fn publish(core: &Rc<Core>, key: Key, message: ClientMessage) {
    let ClientMessage { publisher, channel, kind, data, id } = message;
    let message = Message { publisher, channel: channel.clone(), kind, data, key: id.clone() };
    let result = core.broker.publish(message).await;
    let id = id.as_ref().map(IdempotencyKey::as_str);
    core.with_open(|clients| clients.published(key, &channel, id, &result)).await;
    count(core, key, result);
}

fn count(core: &Core, key: Key, result: Result<Receipt, PublishError>) {
    let failure = match result {
        Ok(receipt) => {
            return core.metrics.published.add(Source::Client, receipt.scope(), 1);
        }
        Err(failure) => failure,
    };
    debug!(client = key.to_u64(), %failure, "a client's message was not published");
    core.metrics.publish_failures.add(PublishFailure::from(&failure) as usize, 1);
}
