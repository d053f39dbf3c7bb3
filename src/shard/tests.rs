//! Whole shards over real sockets, stepped by hand.

mod out_of_reach;
mod settling;
mod sim;
mod sometimes;
