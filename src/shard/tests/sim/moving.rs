//! The simulation's clients go on in another table, as they do in another process.

use std::time::Duration;

use super::{SHARDS, Shard, World};
use crate::{
    clock::Millis,
    conn::{ClientRecord, TableRecord},
    record::recordings::through_bytes,
    shard::{core::Core, tests::core_of},
};

impl World {
    /// The clients of a shard go on in another table. If some are still coming, they are recorded,
    /// and then all stay.
    pub(super) fn move_shard(&mut self) {
        let number = self.random.usize(0..SHARDS);
        let old = &self.shards[number];
        if self.random.bool() {
            old.deliver_all();
        }
        let now = Millis(self.random.u64(0..5));
        let (table, clients, all) = old.core.with(|clients| {
            clients.halt();
            let (table, recorded) = clients.record(now);
            (table, recorded, clients.keys().len())
        });
        // A handshake is a request under way: the shard that it came to answers it.
        let is_coming = self.clients.iter().any(|it| it.shard == number && it.peer.is_none());
        let is_settled = old.core.with(|clients| clients.under_way()) == 0;
        if clients.len() < all || !is_settled || is_coming {
            return old.core.with(|clients| clients.go_on());
        }
        let Core { clock, broker, mailbox, .. } = &*old.core;
        let (poller, new) = core_of(*clock, broker.clone(), mailbox.clone(), &self.control);
        let table: TableRecord = through_bytes(&table);
        let table = new.with(|clients| clients.take_over_table(table));
        for (key, client) in clients {
            let client: ClientRecord = through_bytes(&client);
            let guard = self.control.barrier.client();
            let stream = old.core.with(|clients| clients.duplicate(key)).unwrap();
            new.with(|clients| clients.restore(client, stream, guard, &table, now)).unwrap();
            self.moved += 1;
        }
        old.core.with(|clients| {
            clients.keys().into_iter().for_each(|key| clients.let_go(key));
            assert!(clients.is_empty());
        });
        let mut turns = 0;
        while !new.with(|clients| {
            clients.begin_restored(now + Duration::from_millis(1), &mut || {
                turns += 1;
                turns % 3 > 0
            })
        }) {}
        self.shards[number] = Shard { core: new, _poller: poller };
    }
}
