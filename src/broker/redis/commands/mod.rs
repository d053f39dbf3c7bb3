//! How a handle's commands reach Redis: connections that are kept or replaced, never repaired; the
//! choice among them by channel; the order of a channel's commands; and whether all of it works.

pub(super) mod call_error;
pub(super) mod cluster_routes;
pub(super) mod cluster_view;
pub(super) mod command_connection;
pub(super) mod command_order;
pub(super) mod connectivity;
pub(super) mod router;
#[cfg(test)]
pub(super) mod stand_in;
