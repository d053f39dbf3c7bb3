//! The guarantees that every client must have.

use bytes::Bytes;

use super::{SHARDS_EACH, World, away::Leading};
use crate::broker::redis::protocol::envelope;

impl World {
    /// A message that has arrived was delivered, now or before, or was reported missing, or is from
    /// before the first client: no client is left without a word.
    pub(super) fn assert_not_dropped(&self, shard: usize, payload: &Bytes) {
        let envelope::Envelope { epoch, offset, data, .. } = envelope::decode(payload).unwrap();
        let text = str::from_utf8(&data).unwrap();
        let is_known = self.shards[shard].listener.knows(epoch, offset, text, &self.redis);
        let at = &self.shards[shard].listener.at;
        assert!(is_known, "{epoch}:{offset} ({text}) was dropped without a word at {at:?}");
    }

    /// Where Redis itself has lost nothing, plain clients (which are only ever closed) have all
    /// that was published since they came, or were closed after it.
    pub(super) fn assert_all_was_heard_or_told(&self) {
        if self.is_calm {
            let told = self.shards.iter().map(|shard| shard.listener.gaps).sum::<u64>();
            assert_eq!(told, 0, "what is forged costs nobody anything");
        } else if !self.is_plain || self.leading == Leading::Never {
            return;
        }
        let all = self.redis.all.borrow();
        for (number, shard) in self.shards.iter().enumerate() {
            let first = number - number % SHARDS_EACH;
            let process = &self.shards[first..first + SHARDS_EACH];
            for (text, elsewhere) in &*all {
                let is_heard = || process.iter().any(|shard| shard.listener.has(*text));
                // A shard that was not there cannot know of it; nor can any if none received it.
                let is_promised =
                    elsewhere.is_none_or(|time| shard.listener.was_elsewhere(time) && is_heard());
                assert!(
                    !is_promised
                        || shard.listener.has(*text)
                        || shard.listener.need_not_have(*text),
                    "{text} ({elsewhere:?}) is missing on shard {number} without a word"
                );
            }
        }
    }
}
