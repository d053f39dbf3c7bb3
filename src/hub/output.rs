//! What goes to one client alone: control frames, the greeting, its own output.
//!
//! All of it goes through the client's outbox, so that it waits for the end of a begun frame and
//! is charged to the budget. When to write is decided in `flush`.

use super::{
    Hub, Outlet,
    clients::{Key, State},
    outbox::{Outbox, Replaceable},
};

impl<O: Outlet> Hub<O> {
    /// Sends complete frames that belong to no channel, at the next frame boundary.
    pub fn control(&mut self, key: Key, frame: &[u8]) {
        let Some(index) = self.writable_client(key) else { return };
        self.edit_outbox(index, |outbox| outbox.push(&[frame]));
        self.flush_now(index);
    }

    /// Like [`Hub::control`], in place of an earlier pong that has not been begun: however often
    /// a client pings without reading, one pong waits.
    pub fn pong(&mut self, key: Key, frame: &[u8]) {
        self.replaceable(key, Replaceable::Pong, frame);
    }

    /// Like [`Hub::pong`], for the server's own pings.
    pub fn ping(&mut self, key: Key, frame: &[u8]) {
        self.replaceable(key, Replaceable::Ping, frame);
    }

    fn replaceable(&mut self, key: Key, kind: Replaceable, frame: &[u8]) {
        let Some(index) = self.writable_client(key) else { return };
        self.edit_outbox(index, |outbox| outbox.replace(kind, frame));
        self.flush_now(index);
    }

    /// Appends a frame, given in parts, to what waits for the client. It is written with the next
    /// [`Hub::take_events`], pass or [`Hub::flush`], so that many frames make one write.
    pub fn queue(&mut self, key: Key, frame_parts: &[&[u8]]) {
        let Some(index) = self.writable_client(key) else { return };
        let client = self.clients.get(index);
        let is_busy = client.blocked || client.held || client.outbox.is_some();
        self.edit_outbox(index, |outbox| outbox.push(frame_parts));
        // Once for all that a read brings: a client may have a thousand channels.
        if !is_busy {
            self.set_busy(index, true);
        }
        let client = self.clients.get_mut(index);
        if !client.blocked && !client.unflushed {
            client.unflushed = true;
            self.unflushed.push(key);
        }
        self.relieve_if_over();
    }

    /// Bytes that wait for the client besides its logs.
    #[must_use]
    pub fn unsent(&self, key: Key) -> usize {
        let index = self.clients.find(key);
        let outbox = index.and_then(|index| self.clients.get(index).outbox.as_ref());
        outbox.map_or(0, |outbox| outbox.unsent().len())
    }

    /// The client, if something may still be written to it before its Close frame.
    fn writable_client(&self, key: Key) -> Option<u32> {
        let index = self.clients.find(key)?;
        let open = matches!(self.clients.get(index).state, State::Open | State::LogsThenClose);
        open.then_some(index)
    }

    /// Changes a client's outbox and charges the difference.
    pub(super) fn edit_outbox(&mut self, index: u32, edit: impl FnOnce(&mut Outbox)) {
        let outbox = self.clients.get_mut(index).outbox.get_or_insert_default();
        let before = outbox.cost();
        edit(outbox);
        self.account.resize_outbox(before, outbox.cost());
    }

    pub(super) fn drop_outbox(&mut self, index: u32) {
        if let Some(outbox) = self.clients.get_mut(index).outbox.take() {
            self.account.resize_outbox(outbox.cost(), 0);
        }
    }
}
