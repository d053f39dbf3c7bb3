//! Clients that an operator sends away: for good, or to come back elsewhere.
//!
//! They may be as many as there are, and closing each costs tens of microseconds: so they are only
//! noted at first, and closed in slices by the ticks that follow.

use crate::{
    bans::Bearer,
    broker::{Disconnection, Selector},
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
    /// Begins to close the clients that `disconnection` selects; returns how many.
    pub fn disconnect(&mut self, disconnection: &Disconnection, now: Millis) -> usize {
        self.now = self.now.max(now);
        let Disconnection { selector, may_return, .. } = disconnection;
        let mut keys: Vec<Key> = match selector {
            Selector::Channel(channel) => self.hub.subscribers(channel.as_str()).collect(),
            Selector::Bearer(Bearer::Subject(sub)) => self.clients_of_subject(sub),
            Selector::Bearer(Bearer::TokenId(jti)) => self.clients_of_token_id(jti),
        };
        if matches!(selector, Selector::Bearer(_)) && !may_return {
            // Also what clients have left behind, or wait for while they go; and nothing more is
            // published for those that wait for their close.
            for &key in &keys {
                self.discard_queue(key);
                if let Some(client) = entry(&mut self.entries, key) {
                    client.publisher = None;
                }
            }
        }
        let entries = &mut self.entries;
        let mut state = |key: Key| entry(entries, key).map(|entry| entry.state());
        keys.retain(|&key| state(key) == Some(ClientState::Open));
        let count = keys.len();
        if count == 0 {
            return 0;
        }
        if *may_return {
            self.begin_paced_return(self.now, keys);
            return count;
        }
        self.disconnected.extend(keys);
        if self.disconnected.len() > self.entries.len() {
            // Somebody repeats it faster than it is carried out.
            self.disconnected.sort_unstable();
            self.disconnected.dedup();
        }
        count
    }

    /// Closes those that are not to come back; false when stopped before the last.
    pub(super) fn close_disconnected(&mut self, keep_going: &mut dyn FnMut() -> bool) -> bool {
        while !self.disconnected.is_empty() && keep_going() {
            if let Some(key) = self.disconnected.pop() {
                self.close_with(key, CloseMessage::For(CloseReason::Disconnected), Finish::Frame);
            }
        }
        self.handle_hub_events();
        self.disconnected.is_empty()
    }
}
