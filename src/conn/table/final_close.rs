//! The end of all clients that are left when the process stops, worked off in slices.
//!
//! Each costs a write and a descriptor: the other clients, and everything else that the shard still
//! does, would have to wait for thousands of them.

use crate::{
    clock::Millis,
    conn::{
        client_state::ClientState,
        table::{ConnectionTable, entry},
        write::control_messages::CloseMessage,
    },
    hub::{Finish, Key},
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Closes with 1001 now the clients in `left`, which shrinks while `keep_going` says so; one
    /// that does not take it by `until` is cut off. False when stopped before the last.
    pub fn close_some(
        &mut self,
        left: &mut Vec<Key>,
        until: Millis,
        keep_going: &mut dyn FnMut() -> bool,
    ) -> bool {
        (self.paced, self.returning) = (None, None);
        while !left.is_empty() && keep_going() {
            if let Some(key) = left.pop() {
                self.close_finally(key, until);
            }
        }
        self.handle_hub_events();
        left.is_empty()
    }

    fn close_finally(&mut self, key: Key, until: Millis) {
        self.close_with(key, CloseMessage::For(CloseReason::GoingAway), Finish::Frame);
        let Some(entry) = entry(&mut self.entries, key) else { return };
        match entry.state() {
            ClientState::Open => {}
            ClientState::Closing { reason, until: limit, hurried, peer_closed } => {
                let until = until.min(limit);
                entry.set_state(ClientState::Closing { reason, until, hurried: true, peer_closed });
                if !hurried {
                    self.hub.hurry(key);
                }
            }
            ClientState::Closed { reason, until: limit } => {
                entry.set_state(ClientState::Closed { reason, until: until.min(limit) });
            }
        }
        self.schedule(key, until);
    }

    /// Drops the clients in `left` at once, in slices as well. False when stopped before the last.
    pub fn drop_some(&mut self, left: &mut Vec<Key>, keep_going: &mut dyn FnMut() -> bool) -> bool {
        while !left.is_empty() && keep_going() {
            let Some(key) = left.pop() else { break };
            let Some(entry) = entry(&mut self.entries, key) else { continue };
            match entry.state() {
                ClientState::Closed { reason, .. } => self.end(key, reason),
                ClientState::Open => self.cut_off(key, CloseReason::GoingAway),
                ClientState::Closing { reason, .. } => self.cut_off(key, reason),
            }
        }
        left.is_empty()
    }

    /// Drops all clients in one go.
    #[cfg(test)]
    pub(super) fn drop_all(&mut self) {
        let mut left = self.keys();
        assert!(self.drop_some(&mut left, &mut || true), "nothing stops it");
    }
}
