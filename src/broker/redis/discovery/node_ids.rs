//! Which node of a cluster each address leads to, for all connections of the process.
//!
//! The name of a cluster's node, or an address with a proxy behind it, may lead to another server
//! from one moment to the next, and open connections do not move with it: a process could publish
//! on the old server while others listen on the new one. So each new connection asks for the node's
//! ID (`CLUSTER MYID`), which no other node has; and the control thread opens one to each primary
//! every second (`probes/watch`). When an address leads to another node than before, the
//! connections by that address, for publishing and for listening, are closed and opened anew. Those
//! to other nodes are kept. Nothing here does IO.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use fred::prelude::Server;
use redis_protocol::resp3::types::BytesFrame;
use tokio::sync::watch;

use super::generation::MoveBackoff;
use crate::clock::Millis;

/// A node's ID, as `CLUSTER MYID` answers it.
pub(crate) type NodeId = Arc<str>;

/// The node behind each address, as new connections have found it.
///
/// # Invariants
/// - Open connections by one name have reached one node, except for the moment that they take to
///   end: a new one that has come elsewhere is not used before the others are to be left.
#[derive(Debug, Default)]
pub(crate) struct NodeIds {
    known: watch::Sender<HashMap<Server, KnownNode>>,
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct KnownNode {
    node: NodeId,
    moves: MoveBackoff,
}

/// The finding of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The node that the others have reached, if there are any.
    Same,
    /// Another one: from now on it is the known one.
    Moved,
    /// Another one, so soon after the last move that it is not followed: the connection is unused.
    TooSoon,
}

impl NodeIds {
    /// A new connection to `server` has reached `node`.
    pub(super) fn arrived(&self, server: &Server, node: &NodeId, now: Millis) -> Reached {
        let mut reached = Reached::Same;
        self.known.send_if_modified(|known| {
            let Some(known_node) = known.get_mut(server) else {
                known.insert(
                    server.clone(),
                    KnownNode { node: node.clone(), moves: MoveBackoff::default() },
                );
                return false;
            };
            if known_node.node == *node {
                return false;
            }
            if !known_node.moves.may_move(now) {
                reached = Reached::TooSoon;
                return false;
            }
            known_node.node.clone_from(node);
            reached = Reached::Moved;
            true
        });
        reached
    }

    /// Whether a connection to `server` that has reached `node` is to be left.
    pub(crate) fn is_left(&self, server: &Server, node: Option<&NodeId>) -> bool {
        is_elsewhere(&self.known.borrow(), server, node)
    }

    /// Resolves when a connection to `server` that has reached `node` is to be left.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub(crate) async fn left(&self, server: &Server, node: Option<&NodeId>) {
        let mut known = self.known.subscribe();
        if known.wait_for(|known| is_elsewhere(known, server, node)).await.is_err() {
            // The sender is gone: it never resolves.
            std::future::pending::<()>().await;
        }
    }

    /// Notes that the user may not ask a node for its ID; returns whether that is news.
    pub(super) fn is_first_refusal(&self) -> bool {
        !self.is_refused.swap(true, Ordering::Relaxed)
    }

    /// Forgets the names that are no longer connected to.
    pub(crate) fn keep(&self, is_needed: impl Fn(&Server) -> bool) {
        self.known.send_if_modified(|known| {
            known.retain(|server, _| is_needed(server));
            false
        });
    }
}

/// Reads the answer to `CLUSTER MYID`; None if it holds no ID.
pub(super) fn node_id(answer: &BytesFrame) -> Option<NodeId> {
    let (BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. }) = answer
    else {
        return None;
    };
    std::str::from_utf8(data).ok().map(NodeId::from)
}

/// Whether `node` is another one than the known node of `server`. A node without an ID is taken to
/// be the known one.
fn is_elsewhere(
    known: &HashMap<Server, KnownNode>,
    server: &Server,
    node: Option<&NodeId>,
) -> bool {
    let known_node = known.get(server).map(|known_node| &known_node.node);
    matches!((known_node, node), (Some(known_node), Some(node)) if known_node != node)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::limits::MOVE_PAUSE_MIN;

    fn server(port: u16) -> Server {
        Server::from(("node.example", port))
    }

    fn at(ms: u64) -> Millis {
        Millis(1_000_000 + ms)
    }

    #[test]
    fn only_connections_by_the_name_that_moved_are_left() {
        let node_ids = NodeIds::default();
        let (old, new, other): (NodeId, NodeId, NodeId) = ("old".into(), "new".into(), "o".into());
        for _ in 0..2 {
            assert_eq!(node_ids.arrived(&server(1), &old, at(0)), Reached::Same);
            assert_eq!(node_ids.arrived(&server(2), &other, at(0)), Reached::Same);
        }
        let first = server(1);
        let mut left = std::pin::pin!(node_ids.left(&first, Some(&old)));
        assert!(left.as_mut().now_or_never().is_none());
        assert_eq!(node_ids.arrived(&server(1), &new, at(0)), Reached::Moved);
        assert!(left.now_or_never().is_some());
        assert!(node_ids.is_left(&server(1), Some(&old)));
        assert!(!node_ids.is_left(&server(1), Some(&new)));
        assert!(!node_ids.is_left(&server(2), Some(&other)));
        assert!(!node_ids.is_left(&server(1), None), "it does not say who it is");
        assert_eq!(node_ids.arrived(&server(1), &new, at(0)), Reached::Same);
    }

    /// A name that leads here and there is not followed at once.
    #[test]
    fn an_alternating_name_is_not_followed_at_once() {
        let node_ids = NodeIds::default();
        let (one, two): (NodeId, NodeId) = ("one".into(), "two".into());
        assert_eq!(node_ids.arrived(&server(1), &one, at(0)), Reached::Same);
        assert_eq!(node_ids.arrived(&server(1), &two, at(0)), Reached::Moved);
        assert_eq!(node_ids.arrived(&server(1), &one, at(1)), Reached::TooSoon);
        assert!(node_ids.is_left(&server(1), Some(&one)), "nobody stays there");
        assert!(!node_ids.is_left(&server(1), Some(&two)));
        let later = at(0) + MOVE_PAUSE_MIN;
        assert_eq!(node_ids.arrived(&server(1), &one, later), Reached::Moved);
    }

    #[test]
    fn names_that_nobody_needs_are_forgotten() {
        let node_ids = NodeIds::default();
        let (one, two): (NodeId, NodeId) = ("one".into(), "two".into());
        assert_eq!(node_ids.arrived(&server(1), &one, at(0)), Reached::Same);
        node_ids.keep(|server| server.port != 1);
        assert!(!node_ids.is_left(&server(1), Some(&two)));
        assert_eq!(node_ids.arrived(&server(1), &two, at(0)), Reached::Same);
    }
}
