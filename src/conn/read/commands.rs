//! What clients say on its way to the broker: of each client one thing at a time, in their order.
//!
//! While one is on its way the client is not read; what the last read brought waits here, so the
//! queue is bounded by one read and one message, and charged to the budget. It outlives its
//! client: who says three things and hangs up has said all three. It must not publish itself.

use crate::{
    conn::{
        entry::Entry,
        read::queue::Offered,
        table::{Clients, Request, entry},
        v1::words::Word,
    },
    hub::Key,
    ws::close::CloseReason,
};

impl Clients {
    /// Does what a client says at once, or behind what is on its way.
    pub(in crate::conn) fn offer(&mut self, key: Key, offered: Offered) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let Some(inbox) = client.inbox_mut() else {
            let Some(offered) = self.do_here(key, offered) else { return };
            let Some(client) = entry(&mut self.entries, key) else { return };
            client.open_inbox();
            client.paused = true;
            self.requests.push(Request::Offer(key, offered));
            return;
        };
        self.input.charge(inbox.push(offered));
        if self.input.is_tight() && !self.hub.relieve() {
            self.discard_inbox(key);
            self.close(key, CloseReason::Policy);
        }
    }

    /// Does what needs no broker; gives back the rest.
    fn do_here(&mut self, key: Key, offered: Offered) -> Option<Offered> {
        match offered {
            Offered::Message(_) | Offered::Subscription(_) => return Some(offered),
            Offered::Departure(channel) => self.depart(key, &channel),
            Offered::Ping => self.say(key, &Word::Pong),
        }
        None
    }

    fn discard_inbox(&mut self, key: Key) {
        if let Some(inbox) = entry(&mut self.entries, key).and_then(Entry::inbox_mut) {
            self.input.release(inbox.clear());
        }
    }

    /// What a client wanted has been dealt with; what it wants next. The client itself may be
    /// gone.
    pub fn next_offer(&mut self, key: Key) -> Option<Offered> {
        let offered = loop {
            let inbox = match entry(&mut self.entries, key) {
                Some(entry) => entry.inbox_mut(),
                None => self.orphans.get_mut(&key),
            };
            let Some((offered, cost)) = inbox.and_then(|inbox| inbox.pop()) else { break None };
            self.input.release(cost);
            if let Some(offered) = self.do_here(key, offered) {
                break Some(offered);
            }
        };
        if offered.is_none() {
            self.orphans.remove(&key);
            if let Some(entry) = entry(&mut self.entries, key) {
                entry.take_inbox();
            }
            self.resume(key);
        }
        self.settle();
        offered
    }
}
