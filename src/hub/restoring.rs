//! Clients of another hub go on here, with the output that they are still to get.
//!
//! A client is restored before its outlet can be written to: what is due waits in its outbox, and
//! its logs begin where the channels are. Bytes of several clients are held once.

use super::{
    Encoding, Hub, Outlet,
    clients::{Key, WritingState},
    moved::{Behind, MovedLog},
    outbox::PendingClose,
    record::{BehindRecord, ChannelRecord, ClientOutput, OutputState, Piece, SharedPiece},
    restored::{BadOutput, RestoredOutput},
    shares::{Body, Source},
};

impl<O: Outlet> Hub<O> {
    /// A client of another hub goes on here, in `encoding`. Nothing is written before
    /// [`Hub::take_events`] or a pass, which have to wait for [`Hub::end_restoring`].
    ///
    /// # Errors
    /// When the record refers to bytes or channels that are not in `restored`: then there is no
    /// client.
    pub fn restore(
        &mut self,
        outlet: O,
        encoding: Encoding,
        output: &ClientOutput,
        restored: &RestoredOutput,
    ) -> Result<Key, BadOutput> {
        restored.check(output)?;
        self.shares.set_filling(true);
        let key = self.insert(outlet);
        let index = self.clients.find(key).expect("it was just inserted");
        for &number in &output.channels {
            let ChannelRecord { name, position } = &restored.channels[number as usize];
            if self.subscribe(key, name, encoding) && position.is_some() {
                self.start(key, name.as_str(), position.as_ref());
            }
        }
        if !output.carried.is_empty() {
            self.edit_outbox(index, |outbox| outbox.carry(&output.carried));
        }
        for (place, piece) in output.pieces.iter().enumerate() {
            self.restore_piece(index, piece, restored);
            if place == 0 && output.begun_bytes > 0 {
                self.edit_outbox(index, |outbox| outbox.set_begun(output.begun_bytes));
            }
        }
        if output.is_held {
            self.clients.get_mut(index).held = true;
            self.restore_behind(key, output, restored);
        }
        match &output.state {
            OutputState::Open => {}
            OutputState::LogsThenClose(frame) => {
                self.clients.get_mut(index).state = WritingState::LogsThenClose;
                let ending = PendingClose { frame: Box::from(&frame[..]), heads: Vec::new() };
                self.edit_outbox(index, |outbox| outbox.ending = Some(ending));
            }
            OutputState::Close => {
                self.clients.get_mut(index).state = WritingState::Close;
                self.edit_outbox(index, |_| ());
                self.begin_to_leave(index);
            }
            OutputState::Over => self.clients.get_mut(index).state = WritingState::Over,
        }
        let client = self.clients.get(index);
        let has_output = client.outbox.is_some();
        if has_output || client.held {
            self.set_busy(index, true);
        }
        if has_output {
            self.flush_later(index);
        }
        Ok(key)
    }

    /// All clients of other hubs are here: only now is anything freed that one of them may have
    /// needed, or room made.
    pub fn end_restoring(&mut self) {
        if !self.shares.is_filling() {
            return;
        }
        self.shares.set_filling(false);
        self.budget.set_moved(self.shares.moved_bytes());
        self.relieve_if_tight();
    }

    fn restore_piece(&mut self, index: u32, piece: &Piece, restored: &RestoredOutput) {
        match piece {
            Piece::Own(bytes) => self.edit_outbox(index, |outbox| outbox.push(&[bytes])),
            &Piece::Shared(SharedPiece { body, from, to, head, of_log }) => {
                let share = self.restore_share(body, from, restored);
                self.edit_outbox(index, |outbox| {
                    outbox.push_part(share, from, to, head, of_log);
                });
            }
        }
    }

    fn restore_share(&mut self, body: u32, from: usize, restored: &RestoredOutput) -> u32 {
        let source = Source::Moved(restored.number, body);
        let budget = &self.budget;
        let moved = |parts| Body::Moved(MovedLog::new(parts, |it, more| budget.join(it, more)));
        let body = match self.shares.find(&source) {
            Some(_) => None,
            None => Some(moved(&restored.bodies[body as usize])),
        };
        let share = self.share_from(source, from, || body.expect("made if it is not known"));
        self.budget.set_moved(self.shares.moved_bytes());
        share
    }

    fn restore_behind(&mut self, key: Key, output: &ClientOutput, restored: &RestoredOutput) {
        let mut all = Vec::with_capacity(output.behind.len());
        for BehindRecord { channel, piece } in &output.behind {
            let &SharedPiece { body, from, to, .. } = piece;
            let share = self.restore_share(body, from, restored);
            all.push(Behind { channel: channel.clone(), share, from, to });
        }
        if !all.is_empty() {
            self.behind.insert(key, all);
        }
    }

    /// A client's logs no longer wait: what was in those of the other hub comes first.
    pub(super) fn release_behind(&mut self, index: u32) {
        let Some(behind) = self.behind.remove(&self.clients.key(index)) else { return };
        self.edit_outbox(index, |outbox| {
            for Behind { share, from, to, .. } in behind {
                outbox.push_part(share, from, to, 0, true);
            }
        });
        self.set_busy(index, true);
    }

    /// A client gets nothing more of `channel`; none: of any.
    pub(super) fn drop_behind(&mut self, index: u32, channel: Option<&str>) {
        if self.behind.is_empty() {
            return;
        }
        let key = self.clients.key(index);
        let Some(behind) = self.behind.remove(&key) else { return };
        let is_left = |it: &Behind| channel.is_none_or(|left| it.channel.as_str() == left);
        let (left, kept): (Vec<_>, Vec<_>) = behind.into_iter().partition(is_left);
        for Behind { share, from, .. } in left {
            let freed = self.shares.leave(share, from, false);
            self.shares_left(freed);
        }
        if !kept.is_empty() {
            self.behind.insert(key, kept);
        }
    }
}
