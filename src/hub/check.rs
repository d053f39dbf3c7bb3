//! The hub's invariants, spelled out for tests: nothing here runs in the server.
//!
//! They are stated over the whole state, however long it takes to check them; the simulation does
//! so after every step. The types' documentation has the same invariants in words.

use super::{Entry, Hub, Outlet, clients::WritingState, number::small};
use crate::limits::SUBSCRIPTION_COST_BYTES;

impl<O: Outlet> Hub<O> {
    /// Checks all invariants.
    ///
    /// # Panics
    /// When an invariant is broken.
    pub(crate) fn check(&self) {
        let (mut held_bytes, mut owed_bytes, mut joint_bytes) = (0, 0, 0);
        for (number, log) in &self.logs {
            log.bytes.check();
            held_bytes += log.bytes.cost();
            joint_bytes += log.bytes.joint_bytes();
            assert!(log.subscriber_list.len() > 0, "a log without subscribers is gone");
            let number = small(number);
            let chain = || self.chain(self.log_of(log.name.as_str()));
            let same = chain().filter(|(_, other)| other.encoding == log.encoding);
            assert!(same.map(|(same, _)| same).eq([number]), "one log per channel and encoding");
            assert!(chain().all(|(_, other)| other.name == log.name), "a chain is one channel's");
            for (place, entry) in log.subscriber_list.iter().enumerate() {
                let client = self.clients.get(entry.client);
                let back = client.places.position(number).map(|at| client.places.as_slice()[at]);
                assert_eq!(back.map(|back| back.index as usize), Some(place), "places agree");
                assert!(entry.cursor >= log.bytes.tail(), "tail <= cursor");
                assert!(entry.cursor <= log.bytes.head(), "cursor <= head");
                if entry.cursor < log.due(entry) {
                    assert!(entry.busy || log.queued, "a laggard is waited for or passed over");
                }
            }
            let owner = log.owner.map(|owner| self.clients.get(owner));
            assert!(owner.is_none_or(|owner| owner.places.position(number).is_some()));
            assert_eq!(log.queued, self.dirty.contains((number, log.serial)));
            assert_eq!(log.parting.is_some(), self.partings.contains(&(number, log.serial)));
            let is_cut = self.cuts.contains(&(number, log.serial));
            assert_eq!(log.cut.is_some(), is_cut, "each cut is in the queue");
            let owed = log.cut.map_or(0, |cut| log.bytes.weight_below(cut.tail));
            assert_eq!(log.owed, owed, "the memory that a cut frees is known");
            owed_bytes += owed;
            self.sizes.check(number, log.stock());
        }
        assert_eq!(owed_bytes, self.owed_bytes, "all cuts together");
        let filed = self.logs.iter().filter(|(_, log)| log.stock().is_some()).count();
        assert_eq!(filed, self.sizes.len(), "no log is filed that is gone");
        let first = |entry: &Entry| match entry {
            Entry::Live(log) => Some(*log),
            Entry::Abandoned => None,
        };
        let reached: usize = self.by_name.values().map(|e| self.chain(first(e)).count()).sum();
        assert_eq!(reached, self.logs.len(), "every log has a name");
        self.hoards.check(self.logs.iter().filter_map(|(_, log)| log.owner));
        let beyond = |key| {
            let index = self.clients.find(key).expect("just listed");
            let places = self.clients.get(index).places.as_slice().len();
            std::iter::repeat_n(index, places.saturating_sub(self.channels_free))
        };
        self.subscribers.check(self.clients.keys().flat_map(beyond));
        held_bytes += self.clients.keys().flat_map(beyond).count() * SUBSCRIPTION_COST_BYTES;
        let (mut readers, mut leaving) = (self.behind.values().map(Vec::len).sum(), 0);
        assert!(self.behind.keys().all(|&key| self.clients.find(key).is_some()), "nobody is gone");
        for key in self.clients.keys() {
            let index = self.clients.find(key).expect("just listed");
            held_bytes += self.check_client(index);
            let Some(outbox) = &self.clients.get(index).outbox else { continue };
            readers += outbox.shares().count();
            leaving += if outbox.is_leaving() { outbox.shares().count() } else { 0 };
        }
        let (known_readers, known_leaving, shared_bytes) = self.shares.check();
        assert_eq!(
            (readers, leaving),
            (known_readers, known_leaving),
            "the readers of shares are known"
        );
        held_bytes += shared_bytes;
        assert_eq!(held_bytes, self.budget.held_bytes(), "the charges are exact");
        assert_eq!(joint_bytes, self.budget.joint_bytes(), "also those of shared payloads");
        assert_eq!(self.shares.moved_bytes(), self.budget.moved_bytes(), "also of other hubs");
    }

    /// Returns the memory of the client's outbox.
    fn check_client(&self, index: u32) -> usize {
        let client = self.clients.get(index);
        for (position, place) in client.places.as_slice().iter().enumerate() {
            let log = &self.logs[place.log as usize];
            let entry = log.subscriber_list.get(place.index as usize);
            assert_eq!(entry.client, index, "places agree");
            let amid = !log.bytes.is_boundary(entry.cursor);
            assert_eq!(amid, client.begun() == Some(position), "one begun frame, and known");
            let waits = client.blocked || client.held || client.outbox.is_some();
            assert_eq!(entry.busy, waits, "a pass leaves waiting clients alone");
        }
        assert!(
            client.begun().is_none() || client.blocked,
            "a client with a begun frame is blocked"
        );
        assert!(client.blocked || !client.takes_turns, "a client that takes turns waits for one");
        if client.state == WritingState::Over {
            assert!(client.places.as_slice().is_empty(), "nothing more is due");
            assert!(client.outbox.is_none(), "nothing more is due");
        }
        let Some(outbox) = &client.outbox else { return 0 };
        let is_waited_for = client.blocked || client.unflushed || client.held;
        assert!(is_waited_for, "an outbox waits for something");
        assert!(client.begun().is_none() || outbox.is_untouched(), "frames are not torn apart");
        let heads = outbox.ending.as_ref().map(|ending| ending.heads.len());
        assert_eq!(heads.is_some(), client.state == WritingState::LogsThenClose);
        assert!(heads.is_none_or(|heads| heads == client.places.as_slice().len()));
        outbox.cost()
    }
}
