//! Which node of a cluster each name leads to: what all connections of the process by that name
//! have in common.
//!
//! The name of a cluster's node, or an address with a proxy behind it, may lead to another server
//! from one moment to the next, and connections that stand do not move with it: one could publish
//! on the old server what others await on the new one. So each connection to a node asks for the
//! node's own name, which is nobody else's; and the control thread does so by a new one every
//! second (`watch`). When a name leads to another node than before, the connections by that name
//! are left, whoever publishes or listens through them, and made anew. Those to other nodes stand.
//! Nothing here does IO.

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

use super::whereabouts::Moves;
use crate::clock::Millis;

/// What a node of a cluster calls itself.
pub(crate) type NodeId = Arc<str>;

/// Where names lead, as far as connections have come.
///
/// # Invariants
/// - Connections that stand by one name have reached one node, but for the moment that they take
///   to end: a new one that has come elsewhere is not used before the others are to be left.
#[derive(Debug, Default)]
pub(crate) struct Homes {
    known: watch::Sender<HashMap<Server, Home>>,
    is_refused: AtomicBool,
}

#[derive(Debug)]
struct Home {
    node: NodeId,
    moves: Moves,
}

/// What a new connection has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reached {
    /// The node that the others have reached, if there are any.
    Home,
    /// Another one: from now on it is the home.
    Moved,
    /// Another one, so soon after the last move that it is not followed: the connection is none.
    TooSoon,
}

impl Homes {
    /// A new connection to `server` has reached `node`.
    pub(super) fn arrived(&self, server: &Server, node: &NodeId, now: Millis) -> Reached {
        let mut reached = Reached::Home;
        self.known.send_if_modified(|known| {
            let Some(home) = known.get_mut(server) else {
                known.insert(server.clone(), Home { node: node.clone(), moves: Moves::default() });
                return false;
            };
            if home.node == *node {
                return false;
            }
            if !home.moves.may_move(now) {
                reached = Reached::TooSoon;
                return false;
            }
            home.node.clone_from(node);
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
            // Nobody is left to say so.
            std::future::pending::<()>().await;
        }
    }

    /// A node may not be asked who it is; whether that is news.
    pub(super) fn is_first_refusal(&self) -> bool {
        !self.is_refused.swap(true, Ordering::Relaxed)
    }

    /// Forgets the names that nobody connects to any more.
    pub(crate) fn keep(&self, is_needed: impl Fn(&Server) -> bool) {
        self.known.send_if_modified(|known| {
            known.retain(|server, _| is_needed(server));
            false
        });
    }
}

/// The answer to `CLUSTER MYID`; None if it is none.
pub(super) fn node_id(answer: &BytesFrame) -> Option<NodeId> {
    let (BytesFrame::BlobString { data, .. } | BytesFrame::SimpleString { data, .. }) = answer
    else {
        return None;
    };
    std::str::from_utf8(data).ok().map(NodeId::from)
}

/// A node that does not say who it is is believed to be the one that is meant.
fn is_elsewhere(known: &HashMap<Server, Home>, server: &Server, node: Option<&NodeId>) -> bool {
    let home = known.get(server).map(|home| &home.node);
    matches!((home, node), (Some(home), Some(node)) if home != node)
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
        let homes = Homes::default();
        let (old, new, other): (NodeId, NodeId, NodeId) = ("old".into(), "new".into(), "o".into());
        for _ in 0..2 {
            assert_eq!(homes.arrived(&server(1), &old, at(0)), Reached::Home);
            assert_eq!(homes.arrived(&server(2), &other, at(0)), Reached::Home);
        }
        let first = server(1);
        let mut left = std::pin::pin!(homes.left(&first, Some(&old)));
        assert!(left.as_mut().now_or_never().is_none());
        assert_eq!(homes.arrived(&server(1), &new, at(0)), Reached::Moved);
        assert!(left.now_or_never().is_some());
        assert!(homes.is_left(&server(1), Some(&old)));
        assert!(!homes.is_left(&server(1), Some(&new)));
        assert!(!homes.is_left(&server(2), Some(&other)));
        assert!(!homes.is_left(&server(1), None), "it does not say who it is");
        assert_eq!(homes.arrived(&server(1), &new, at(0)), Reached::Home);
    }

    #[test]
    fn a_name_that_leads_here_and_there_is_not_followed_at_once() {
        let homes = Homes::default();
        let (one, two): (NodeId, NodeId) = ("one".into(), "two".into());
        assert_eq!(homes.arrived(&server(1), &one, at(0)), Reached::Home);
        assert_eq!(homes.arrived(&server(1), &two, at(0)), Reached::Moved);
        assert_eq!(homes.arrived(&server(1), &one, at(1)), Reached::TooSoon);
        assert!(homes.is_left(&server(1), Some(&one)), "nobody stays there");
        assert!(!homes.is_left(&server(1), Some(&two)));
        let later = at(0) + MOVE_PAUSE_MIN;
        assert_eq!(homes.arrived(&server(1), &one, later), Reached::Moved);
    }

    #[test]
    fn names_that_nobody_needs_are_forgotten() {
        let homes = Homes::default();
        let (one, two): (NodeId, NodeId) = ("one".into(), "two".into());
        assert_eq!(homes.arrived(&server(1), &one, at(0)), Reached::Home);
        homes.keep(|server| server.port != 1);
        assert!(!homes.is_left(&server(1), Some(&two)));
        assert_eq!(homes.arrived(&server(1), &two, at(0)), Reached::Home);
    }
}
