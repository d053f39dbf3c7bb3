//! The location of Redis: the primary that sentinels agree on, the slot map of a cluster, and
//! whether open connections still lead to where their names do.

pub(super) mod destination;
pub(super) mod generation;
pub(super) mod hints;
pub(super) mod node_ids;
pub(super) mod primary;
pub(super) mod sentinel;
pub(super) mod slot_map;
pub(super) mod slot_map_refresh;
