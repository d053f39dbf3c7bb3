//! The simulation's hub hands all its clients to another one, which goes on with them.

use std::sync::Arc;

use super::{CHANNELS, Simulation, lay_out_again, settings};
use crate::{
    hub::{
        Budget, ClientOutput, Hub, HubRecord, Key, OutputTaking, PayloadsTaking, RestoredOutput,
    },
    record::recordings::through_bytes,
};

/// All that a hub has of these clients, as another process reads it.
type Recorded = (Vec<HubRecord>, Vec<ClientOutput>);

impl Simulation {
    /// A new hub goes on with what the old one has recorded; the old one is gone.
    pub(super) fn move_all(&mut self) {
        self.check_events();
        let keys: Vec<_> = self.clients.iter().map(|client| client.key).collect();
        // Those that messages were lost to begin to be closed.
        self.hub.begin_partings();
        self.hub.check();
        self.check_events();
        let (shared, outputs) = self.record(&keys);
        assert!(self.record(&keys) == (shared.clone(), outputs.clone()), "nothing changes");
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

    fn record(&self, keys: &[Key]) -> Recorded {
        let mut recording = self.hub.record(keys, Arc::default());
        let mut shared = Vec::new();
        while let Some(record) = recording.next(&self.hub) {
            shared.push(through_bytes(&record));
        }
        let client = |&key| self.hub.record_client(key, &recording).expect("nobody has left");
        (shared, keys.iter().map(|key| through_bytes(&client(key))).collect())
    }
}

fn restored(shared: Vec<HubRecord>) -> RestoredOutput {
    let (mut taking, mut payloads) = (OutputTaking::default(), PayloadsTaking::default());
    for record in shared {
        taking.put(record, &mut payloads).unwrap();
    }
    taking.finish(0, &payloads.finish(), &lay_out_again).unwrap()
}
