//! The facts behind the ops routes, as closures of their owner: HTTP itself knows no process.

use std::{rc::Rc, sync::Arc};

pub use super::ops_pacer::{OpsPacer, Text};
use crate::{
    broker::{Reach, RefusalExtent},
    metrics::ShardMetrics,
};

/// The broker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerState {
    /// Whether it can be reached.
    pub reach: Reach,
    /// The extent to which it refuses although it can be reached.
    pub refuses: RefusalExtent,
    /// The heartbeat of one shard does not return while those of others do.
    pub shard_stalled: bool,
}

/// Where the ops routes get their facts.
pub struct Sources {
    /// All shards of the process.
    pub shards: Vec<Arc<ShardMetrics>>,
    /// The broker's state now.
    pub broker: Rc<dyn Fn() -> BrokerState>,
    /// The metrics as Prometheus text.
    pub metrics_text: Text,
    /// The same facts as JSON.
    pub stats_json: Text,
    /// Turns for requests to the ops routes.
    pub pacer: OpsPacer,
    /// Version and commit, for `GET /`.
    pub version: String,
}
