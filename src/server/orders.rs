//! Orders of the control thread to the shards.

use std::rc::Rc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::shard::handover::Order;

/// A way to order something of each shard.
#[derive(Clone, Debug)]
pub(super) struct Orders(Rc<[mpsc::Sender<Order>]>);

impl Orders {
    pub(super) fn new(to: Vec<mpsc::Sender<Order>>) -> Self {
        Self(to.into())
    }

    /// How many shards there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no shard has orders to carry out from before.
    ///
    /// # Errors
    /// Which one has: a sentence's end, in lower case.
    pub(super) fn are_done(&self) -> Result<(), String> {
        match self.0.iter().position(|shard| shard.capacity() < shard.max_capacity()) {
            Some(shard) => Err(format!("shard {shard} hangs")),
            None => Ok(()),
        }
    }

    /// Orders something of one shard, and waits for its answer.
    pub(super) async fn ask<T>(
        &self,
        shard: usize,
        order: impl FnOnce(oneshot::Sender<T>) -> Order,
    ) -> Result<T, String> {
        let (answer, answered) = oneshot::channel();
        // An error here is one of `answered`, too.
        let _ = self.0[shard].try_send(order(answer));
        answered.await.map_err(|_| format!("shard {shard} has ended, or hangs"))
    }

    /// The same of all.
    pub(super) async fn ask_all(
        &self,
        order: fn(oneshot::Sender<()>) -> Order,
    ) -> Result<(), String> {
        let all = (0..self.len()).map(|shard| self.ask(shard, order));
        join_all(all).await.into_iter().collect()
    }

    /// Orders something of all.
    pub(super) fn give_all(&self, mut order: impl FnMut() -> Order) {
        for shard in &*self.0 {
            // A shard that has ended has nothing to do any more; one that hangs had an empty queue
            // when it was told to halt.
            let _ = shard.try_send(order());
        }
    }
}
