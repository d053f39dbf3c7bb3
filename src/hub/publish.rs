//! Publishing: a message is added once to each log, encoded or, if it is long, laid out.
//!
//! Each encoding in use is asked for once. A log that grows is bounded at once: by its own backlog,
//! and together with all others by the budget. Delivering is left to the next pass.

use super::{Encode, Encoding, Hub, Outlet, SlowPolicy, long::Long};
use crate::{
    limits::{ENCODED_WHOLE_BYTES_MAX, HISTORY_ENCODINGS_FACTOR},
    position::Position,
};

impl<O: Outlet> Hub<O> {
    /// Whether a message with a payload of so many bytes can be published here at all: other
    /// processes may have more memory.
    #[must_use]
    pub fn can_hold(&self, payload_bytes: usize) -> bool {
        self.budget.can_hold(payload_bytes)
    }

    /// Whether a message from the history is so long that its encodings should be laid out.
    #[must_use]
    pub fn is_long(&self, payload_bytes: usize) -> bool {
        self.budget.are_long(payload_bytes.saturating_mul(HISTORY_ENCODINGS_FACTOR))
    }

    /// Whether slow clients skip to the newest message.
    #[must_use]
    pub fn skips(&self) -> bool {
        self.settings.slow == SlowPolicy::Skip
    }

    /// Encodes a message once into each of its channel's logs; the next pass delivers it. False if
    /// the channel has no subscriber here.
    pub fn publish(&mut self, channel: &str, message: &mut impl Encode) -> bool {
        self.publish_at(channel, None, message)
    }

    /// The same for a message that has a position. False also if the position is not after the
    /// channel's last one: the message was here before, or new clients were given it in another
    /// way.
    pub fn publish_at(
        &mut self,
        channel: &str,
        position: Option<&Position>,
        message: &mut impl Encode,
    ) -> bool {
        let Some(first) = self.log_of(channel) else { return false };
        if position.is_some_and(|position| !self.advance(first, position)) {
            return false;
        }
        let factors = self.chain(Some(first)).map(|(_, log)| log.encoding.factor_max());
        let payload_bytes = message.payload_bytes();
        let is_long = self.budget.are_long(payload_bytes.saturating_mul(factors.sum()));
        let mut grown = std::mem::take(&mut self.grown);
        let mut next = Some(first);
        while let Some(log) = next {
            let target = &mut self.logs[log as usize];
            next = target.sibling;
            // In the published encoding it only has to be copied.
            let is_whole = payload_bytes <= ENCODED_WHOLE_BYTES_MAX;
            let is_laid_out = is_long || !is_whole && target.encoding != Encoding::Plain;
            let long = if is_laid_out { message.lay_out(target.encoding) } else { None };
            let parts = match &long {
                Some(_) => [&[][..]; 2],
                None => message.encode(target.encoding),
            };
            if long.is_none() && parts.iter().all(|part| part.is_empty()) {
                continue;
            }
            if target.encoding.tells_gaps() {
                target.track.append(target.bytes.frames(), position);
            }
            let joint = target.bytes.joint_bytes();
            let (before, after) = match long {
                Some(laid) => {
                    let payload = self.budget.join(&laid.payload, 0);
                    target.bytes.append_long(Long::new(laid, Some(payload)))
                }
                None => target.bytes.append(parts),
            };
            self.budget.resize_joint(joint, target.bytes.joint_bytes());
            if is_long || before != after || target.bytes.len() > self.settings.backlog_bytes {
                grown.push((log, target.serial));
            }
            self.budget.resize(before, after);
            self.note_size(log);
            self.mark_dirty(log);
        }
        // Closing slow clients may end any of the logs.
        for &(log, serial) in &grown {
            if self.is_log(log, serial) {
                self.bound(log);
            }
        }
        grown.clear();
        self.grown = grown;
        true
    }

    /// Keeps a log that has grown, and all logs together, within their bounds.
    fn bound(&mut self, log: u32) {
        if let Some(tail) = self.logs[log as usize].bytes.cut_to(self.settings.backlog_bytes) {
            self.cut_soon(log, tail, self.settings.slow);
        }
        self.relieve_if_tight();
    }

    /// A log has grown or shrunk, or its cut has changed.
    pub(super) fn note_size(&mut self, log: u32) {
        let target = &mut self.logs[log as usize];
        let owed = target.cut.map_or(0, |cut| target.bytes.weight_below(cut.tail));
        self.owed_bytes = self.owed_bytes + owed - target.owed;
        target.owed = owed;
        self.sizes.file(log, target.stock());
    }
}
