//! Room for newcomers in a shard that is full of channels: the clients that filled it go first.
//!
//! Any client may name a thousand channels that no other wants, and do so over many connections.
//! The bound on logs must not be theirs to use up, so what a client makes the shard keep is
//! compared with what a newcomer wants; and so is the memory of subscriptions. A client with few
//! channels never has to go, and always gets them.

use crate::{
    channel::ChannelName,
    conn::table::ConnectionTable,
    hub::{Encoding, Key},
    limits::{CHANNELS_FREE, CHANNELS_PER_SHARD_MAX, HOARDERS_PER_NEWCOMER_MAX},
    ws::close::CloseReason,
};

impl ConnectionTable {
    /// Makes room for a client that wants `channels` in `encoding`, and then has `count` channels
    /// in all. If there is none, a client that makes the shard keep more than twice as many has to
    /// go; if no client does, this one gets no room, unless it has few.
    #[must_use]
    pub fn make_room(
        &mut self,
        channels: &[ChannelName],
        encoding: Encoding,
        count: usize,
    ) -> bool {
        let mut before = None;
        for _ in 0..HOARDERS_PER_NEWCOMER_MAX {
            let Some(hoarder) = self.in_the_way(channels, encoding, count) else { return true };
            let Some((key, kept)) = hoarder.filter(|(key, _)| before != Some(*key)) else { break };
            before = Some(key);
            if kept > 2 * count {
                self.close(key, CloseReason::TooManyChannels);
            }
        }
        count <= CHANNELS_FREE
    }

    /// None: there is room. Otherwise the client, if any, that takes the most of the scarce
    /// resource.
    fn in_the_way(
        &mut self,
        channels: &[ChannelName],
        encoding: Encoding,
        count: usize,
    ) -> Option<Option<(Key, usize)>> {
        let is_new = |channel: &&ChannelName| !self.hub.has_log(channel.as_str(), encoding);
        let new = channels.iter().filter(is_new).count();
        if new > 0 && self.hub.log_count() + new > CHANNELS_PER_SHARD_MAX {
            return Some(self.hub.hoarder());
        }
        let more = channels.len().min(count.saturating_sub(CHANNELS_FREE));
        self.hub.largest_subscriber(more).map(Some)
    }
}
