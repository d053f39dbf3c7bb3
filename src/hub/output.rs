//! Output for one client alone: control frames, the greeting, answers, replayed history.
//!
//! All of it goes through the client's outbox, where it waits for the end of a begun frame and is
//! charged to the budget. Every addition passes one gate ([`Hub::admit`]), which closes clients
//! that leave more unread than they may, and no others. The total over all clients is bounded by
//! `relief`; `flush` decides when outboxes are written.

use bytes::Bytes;

use super::{
    Hub, LaidOut, Outlet, Source,
    clients::{Key, WritingState},
    long::Long,
    outbox::{Outbox, Replaceable},
    shares::Body,
};

impl<O: Outlet> Hub<O> {
    /// Sends complete frames that belong to no channel, at the next frame boundary.
    pub fn control(&mut self, key: Key, frame: &[u8]) {
        if let Some(index) = self.put(key, |outbox| outbox.push(&[frame])) {
            self.flush_now(index);
        }
    }

    /// Like [`Hub::control`], but replaces an earlier pong that has not been begun: however often a
    /// client pings without reading, one pong waits.
    pub fn pong(&mut self, key: Key, frame: &[u8]) {
        self.replaceable(key, Replaceable::Pong, frame);
    }

    /// Like [`Hub::pong`], for the server's own pings.
    pub fn ping(&mut self, key: Key, frame: &[u8]) {
        self.replaceable(key, Replaceable::Ping, frame);
    }

    fn replaceable(&mut self, key: Key, kind: Replaceable, frame: &[u8]) {
        if let Some(index) = self.put(key, |outbox| outbox.replace(kind, frame)) {
            self.flush_now(index);
        }
    }

    /// Appends a frame, given in parts, to the client's outbox. It is written with the next
    /// [`Hub::take_events`], pass or [`Hub::flush`], so that many frames make one write.
    pub fn queue(&mut self, key: Key, frame_parts: &[&[u8]]) {
        self.put_later(key, |outbox| outbox.push(frame_parts));
    }

    /// Like [`Hub::queue`], but everything except `head` is held once for all clients that are
    /// given the same `source`. `bytes` is called if no client has it yet.
    pub fn queue_shared(
        &mut self,
        key: Key,
        head: &[u8],
        source: Source,
        bytes: impl FnOnce() -> Bytes,
    ) {
        let Some(index) = self.admit(key) else { return };
        let share = self.share(source, || Body::Bytes(bytes()));
        let length = self.shares.len(share);
        self.edit_later(index, |outbox| outbox.push_share(head, share, length));
    }

    /// Like [`Hub::queue_shared`], for a frame that is written when it is read.
    pub fn queue_long(&mut self, key: Key, source: Source, laid: impl FnOnce() -> LaidOut) {
        let Some(index) = self.admit(key) else { return };
        let share = self.share(source, || Body::Long(Long::new(laid(), None)));
        let length = self.shares.len(share);
        self.edit_later(index, |outbox| outbox.push_share(&[], share, length));
    }

    /// Whether a client is being given this, so that it need not be made again.
    #[must_use]
    pub fn is_shared(&self, source: &Source) -> bool {
        self.shares.find(source).is_some()
    }

    /// A reference to shared bytes, for one more reader.
    pub(super) fn share(&mut self, source: Source, body: impl FnOnce() -> Body) -> u32 {
        self.share_from(source, 0, body)
    }

    /// The same for a reader that begins at `from`.
    pub(super) fn share_from(
        &mut self,
        source: Source,
        from: usize,
        body: impl FnOnce() -> Body,
    ) -> u32 {
        if let Some(share) = self.shares.find(&source) {
            self.shares.join(share, from);
            return share;
        }
        let (share, cost) = self.shares.insert(source, body(), from);
        self.budget.resize_shares(0, cost);
        share
    }

    /// Shares have been left, of which some were freed.
    pub(super) fn shares_left(&mut self, freed: usize) {
        self.budget.resize_shares(freed, 0);
        self.budget.set_moved(self.shares.moved_bytes());
    }

    fn put_later(&mut self, key: Key, edit: impl FnOnce(&mut Outbox)) {
        if let Some(index) = self.admit(key) {
            self.edit_later(index, edit);
        }
    }

    fn edit_later(&mut self, index: u32, edit: impl FnOnce(&mut Outbox)) {
        let client = self.clients.get(index);
        let is_busy = client.blocked || client.held || client.outbox.is_some();
        self.edit_outbox(index, edit);
        // Once for all frames that one read causes: a client may have a thousand channels.
        if !is_busy {
            self.set_busy(index, true);
        }
        self.flush_later(index);
        self.relieve_if_tight();
    }

    /// Schedules the outbox for the next write, unless the outlet is full.
    pub(super) fn flush_later(&mut self, index: u32) {
        let key = self.clients.key(index);
        let client = self.clients.get_mut(index);
        if !client.blocked && !client.unflushed {
            client.unflushed = true;
            self.unflushed.push(key);
        }
    }

    /// The same for one of very many clients: passes write these outboxes, and yield to other work.
    pub(super) fn flush_patiently(&mut self, index: u32) {
        let key = self.clients.key(index);
        let client = self.clients.get_mut(index);
        if !client.blocked && !client.unflushed {
            client.unflushed = true;
            self.patient.push(key);
        }
    }

    /// The client's own bytes that wait besides its logs.
    #[must_use]
    pub fn unsent(&self, key: Key) -> usize {
        self.outbox_of(key).map_or(0, Outbox::own_bytes)
    }

    /// These bytes and the shared ones, without those that come from its logs.
    #[must_use]
    pub fn unread(&self, key: Key) -> usize {
        self.outbox_of(key).map_or(0, Outbox::told_bytes)
    }

    fn outbox_of(&self, key: Key) -> Option<&Outbox> {
        self.clients.get(self.clients.find(key)?).outbox.as_deref()
    }

    fn put(&mut self, key: Key, edit: impl FnOnce(&mut Outbox)) -> Option<u32> {
        let index = self.admit(key)?;
        self.edit_outbox(index, edit);
        Some(index)
    }

    /// The one gate to a client's outbox for everything that is for it alone: open while the client
    /// may still be written to. A client that has left more unread than it may fall behind in a log
    /// is closed. The frame to be added does not count: a single message makes no client slow.
    fn admit(&mut self, key: Key) -> Option<u32> {
        let index = self.writable_client(key)?;
        if self.unread(key) <= self.settings.backlog_bytes {
            return Some(index);
        }
        // Perhaps it merely was not written to.
        self.flush_wholly(index);
        if self.unread(key) > self.settings.backlog_bytes {
            self.give_up(index);
        }
        self.writable_client(key)
    }

    /// The client, if more may be written to it before its Close frame.
    fn writable_client(&self, key: Key) -> Option<u32> {
        let index = self.clients.find(key)?;
        let open = matches!(
            self.clients.get(index).state,
            WritingState::Open | WritingState::LogsThenClose
        );
        open.then_some(index)
    }

    /// Changes a client's outbox and charges the difference.
    pub(super) fn edit_outbox(&mut self, index: u32, edit: impl FnOnce(&mut Outbox)) {
        let slot = &mut self.clients.get_mut(index).outbox;
        let before = slot.as_ref().map_or(0, |outbox| outbox.cost());
        let outbox = slot.get_or_insert_with(|| Box::new(Outbox::begun_at(self.ticks)));
        edit(outbox);
        self.budget.resize_outbox(before, outbox.cost());
    }

    pub(super) fn drop_outbox(&mut self, index: u32) {
        if let Some(mut outbox) = self.clients.get_mut(index).outbox.take() {
            self.budget.resize_outbox(outbox.cost(), 0);
            let freed = outbox.leave_shares(&mut self.shares);
            self.shares_left(freed);
        }
    }
}
