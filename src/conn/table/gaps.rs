//! Gaps: messages that clients will not get, reported in their logs, individually, or by a Close.

use crate::{
    broker::{Missed, Publication},
    channel::ChannelName,
    conn::{
        settings::ResumeMiss,
        table::{ConnectionTable, entry},
        write::notice::Notice,
    },
    hub::{Encode, Key},
    telemetry::seldom,
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Reports a gap to one client.
    pub(super) fn send_gap(&mut self, key: Key, channel: &ChannelName, missed: &Missed) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        let encoding = client.encoding.uncompressed();
        let mut notice = Notice::new(channel, missed);
        let parts = notice.encode(encoding);
        self.hub.queue(key, &parts);
    }

    /// Messages of `channel` were lost before they reached this process. Clients that can be told
    /// of it are, and continue; the others are closed after everything that came before the hole.
    /// They are not closed if all that is known is that another history has begun: they know
    /// nothing of histories, and would all leave whenever a Redis without persistence is restarted.
    pub fn lost(&mut self, channel: &ChannelName, missed: &Missed) {
        self.hub.publish(channel.as_str(), &mut Notice::new(channel, missed));
        if missed.is_certain() {
            self.close_for_gap(channel);
        } else {
            self.handle_hub_events();
        }
    }

    /// A message has come from a process with more memory, too large to be held here: it is
    /// reported as missing, and no client counts as slow because of it. False: no client has the
    /// channel, or the message is old.
    pub(super) fn pass_over(&mut self, message: &Publication) -> bool {
        let Publication { channel, data, position, .. } = message;
        let missed = self.missed_with(message);
        let mut notice = Notice::new(channel, &missed);
        if !self.hub.publish_at(channel.as_str(), position.as_ref(), &mut notice) {
            return false;
        }
        self.metrics.unheld_messages.add(1);
        seldom!(
            warn,
            "a message is larger than a quarter of --backlog-total, and passed over",
            channel = %channel,
            bytes = data.len()
        );
        if self.hub.skips() {
            self.handle_hub_events();
        } else {
            self.close_for_gap(channel);
        }
        true
    }

    /// The same for one client that was to be given such a message from its history.
    pub(super) fn miss_unheld(&mut self, key: Key, message: &Publication) {
        let Some(client) = entry(&mut self.entries, key) else { return };
        if client.encoding.tells_gaps() {
            let missed = self.missed_with(message);
            self.send_gap(key, &message.channel, &missed);
        } else if self.settings.resume_miss == ResumeMiss::Close {
            self.close(key, CloseReason::HistoryGone);
        }
    }

    /// The gap including `message`; a message without a position comes after the last that has one.
    fn missed_with(&self, message: &Publication) -> Missed {
        let (at, is_counted) = match &message.position {
            Some(position) => (Some(position), true),
            None => (self.hub.position(message.channel.as_str()), false),
        };
        let Some(at) = at else { return Missed { epoch: None, from: 1, to: None, sure: true } };
        let from = at.offset + u64::from(!is_counted);
        Missed { epoch: Some(at.epoch.clone()), from, to: Some(at.offset), sure: true }
    }
}
