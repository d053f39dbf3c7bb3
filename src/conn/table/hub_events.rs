//! The hub's events after any call: clients that are full, failed, missed messages, or are done.
//!
//! The hub knows no sockets, deadlines or metrics; here each of its events becomes what the table
//! does about it, until there is none left.

use std::io;

use crate::{
    conn::table::{ConnectionTable, Request, entry},
    hub::{self, Finish, Key},
    metrics::SlowAction,
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Handles the hub's events after any call.
    pub(super) fn handle_hub_events(&mut self) {
        let mut events = std::mem::take(&mut self.hub_events);
        loop {
            self.hub.take_events(&mut events);
            if events.is_empty() {
                break;
            }
            for event in events.drain(..) {
                self.on_hub_event(event);
            }
        }
        self.hub_events = events;
        while let Some(channel) = self.hub.take_abandoned() {
            self.requests.push(Request::Abandoned(channel));
        }
    }

    fn on_hub_event(&mut self, event: hub::Event) {
        match event {
            hub::Event::Blocked(key) => self.watch(key, true),
            hub::Event::Drained(key) => {
                if entry(&mut self.entries, key).is_some_and(|entry| entry.wants_room) {
                    self.watch(key, false);
                }
                self.go_on_with_replay(key);
                self.resume(key);
            }
            hub::Event::Failed(key, io::ErrorKind::OutOfMemory) => {
                self.metrics.slow_consumers.add(SlowAction::Close as usize, 1);
                self.cut_off(key, CloseReason::SlowConsumer);
            }
            hub::Event::Failed(key, _) => self.on_broken(key),
            hub::Event::Slow(key) => {
                self.metrics.slow_consumers.add(SlowAction::Close as usize, 1);
                self.begin_closing(key, CloseReason::SlowConsumer, Finish::Frame);
            }
            hub::Event::Parting(key) => self.begin_closing(key, CloseReason::Gap, Finish::Log),
            hub::Event::Skipped(key, messages, hole) => {
                self.metrics.slow_consumers.add(SlowAction::Skip as usize, 1);
                self.metrics.skipped_messages.add(messages);
                if let Some(hole) = hole {
                    self.on_hole(key, *hole);
                }
            }
            hub::Event::CloseSent(key) => self.on_close_sent(key),
        }
    }

    fn watch(&mut self, key: Key, writable: bool) {
        let Some((socket, tls)) = self.hub.outlet_and_shared(key) else { return };
        if let Some(entry) = entry(&mut self.entries, key) {
            entry.wants_room = writable;
        }
        if self.registry.watch(socket, tls, key, writable).is_err() {
            self.on_broken(key);
        }
    }
}
