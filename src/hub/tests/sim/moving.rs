//! The simulation's hub hands all its clients to another one, which goes on with them.

use std::sync::Arc;

use super::{CHANNELS, Simulation, recorded, restored, settings};
use crate::hub::{Budget, Hub};

impl Simulation {
    /// A new hub goes on with what the old one has recorded; the old one is gone.
    pub(super) fn move_all(&mut self) {
        self.check_events();
        let keys: Vec<_> = self.clients.iter().map(|client| client.key).collect();
        // Those that messages were lost to begin to be closed.
        self.hub.begin_partings();
        self.hub.check();
        self.check_events();
        let (shared, outputs) = recorded(&self.hub, &keys);
        assert!(recorded(&self.hub, &keys) == (shared.clone(), outputs.clone()), "nothing changes");
        self.deliveries += self.hub.tally.deliveries;
        self.budget = Arc::new(Budget::new(self.limit_bytes));
        let (free, laggards) = (self.hub.channels_free, self.hub.laggards_per_pass);
        self.hub = Hub::new(settings(self.backlog_bytes, self.policy), self.budget.clone());
        self.hub.channels_free = free;
        (self.hub.laggards_per_pass, self.hub.laggards_left) = (laggards, laggards);
        let restored = restored(shared);
        for (client, output) in self.clients.iter_mut().zip(outputs) {
            client.pipe.0.borrow_mut().full = false;
            client.read_bytes(&self.channels);
            let outlet = client.pipe.clone();
            client.key = self.hub.restore(outlet, client.encoding, &output, &restored).unwrap();
            client.move_on(&self.channels);
            self.told.moved += 1;
        }
        self.hub.end_restoring();
        for channel in 0..CHANNELS {
            self.known[channel].begin_anew(self.channels[channel].messages.len());
        }
        self.hub.check();
    }
}
