//! Another program with the right to publish, which claims whatever it likes.

use bytes::Bytes;

use super::World;
use crate::broker::redis::protocol::envelope;

impl World {
    /// Redis and all connections to it are well.
    pub(super) async fn calm_step(&mut self, shard: usize) {
        match self.random.u8(0..10) {
            0..=2 => self.redis.publish(),
            3 | 4 => self.forge(shard),
            _ => {
                self.deliver(shard).await;
            }
        }
    }

    /// Anything but the one message that would be next.
    fn forge(&mut self, shard: usize) {
        let (version, held) = (envelope::VERSION, self.redis.held.borrow());
        let epoch = match &held.epoch {
            Some(epoch) if self.random.u8(0..4) > 0 => epoch.clone(),
            _ => ["other", "another", "f00"][self.random.usize(0..3)].to_owned(),
        };
        let offset = match self.random.u8(0..4) {
            0 => 1 << self.random.u8(0..53),
            _ => self.random.u64(1..held.offset + 4),
        };
        let nonce =
            if held.nonce > 0 && self.random.bool() { held.nonce } else { envelope::nonce() };
        let payload = format!("{version} t {epoch} {offset} {nonce} {}\n0", envelope::nonce());
        if let Some(line) = &mut self.redis.lines.borrow_mut()[shard] {
            line.on_its_way.push_back(Bytes::from(payload));
        }
    }
}
