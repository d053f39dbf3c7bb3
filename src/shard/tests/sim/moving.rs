//! The simulation's clients go on in another table, as they do in another process.

use std::{sync::Arc, time::Duration};

use super::{SHARDS, Shard, World};
use crate::{
    clock::Millis,
    conn::TablesTaking,
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
        let mut taking = TablesTaking::default();
        let (clients, all) = old.core.with(|clients| {
            clients.halt();
            let mut recording = clients.record(now, Arc::default());
            while let Some(chunk) = recording.next_chunk(clients) {
                taking.put(3, &chunk).unwrap();
            }
            (recording.next_clients(clients, usize::MAX), clients.keys().len())
        });
        // A handshake is a request under way: the shard that it came to answers it.
        let is_coming = self.clients.iter().any(|it| it.shard == number && it.peer.is_none());
        let is_settled = old.core.with(|clients| clients.under_way()) == 0;
        if clients.len() < all || !is_settled || is_coming {
            return old.core.with(|clients| clients.go_on());
        }
        let Core { clock, broker, mailbox, .. } = &*old.core;
        let (poller, new) = core_of(*clock, broker.clone(), mailbox.clone(), &self.control);
        let tables = taking.finish().unwrap();
        for (key, client) in clients {
            let guard = self.control.barrier.client();
            let stream = old.core.with(|clients| clients.duplicate(key)).unwrap();
            new.with(|clients| clients.restore(&client, stream, guard, tables.of(3), now)).unwrap();
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
