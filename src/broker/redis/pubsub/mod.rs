//! How a shard hears what is published: what it is subscribed to, on which servers, through which
//! shard's subscriber, and what becomes of that.

mod cluster_node;
mod command;
mod delivery;
pub(super) mod shard_subscriptions;
pub(super) mod sharded;
pub(super) mod shared;
pub(super) mod source;
pub(super) mod subscriber;
pub(super) mod subscriptions;
