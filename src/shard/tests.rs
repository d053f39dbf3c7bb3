//! Whole shards over real sockets, stepped by hand.

mod sim;
