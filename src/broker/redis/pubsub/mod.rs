//! The subscriptions of a shard: its channels, the positions from which they are heard, the servers
//! they are on, the subscriber that carries them, and the delivery of their messages.

mod cluster_node;
mod command;
mod delivery;
mod held;
pub(super) mod moving;
pub(super) mod positions;
pub(super) mod shard_subscriptions;
pub(super) mod sharded;
pub(super) mod shared;
pub(super) mod source;
pub(super) mod subscriber;
pub(super) mod subscriptions;
mod topic;
