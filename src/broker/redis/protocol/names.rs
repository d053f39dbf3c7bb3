//! The names of our keys and channels in Redis.
//!
//! `PREFIX:{CHANNEL}` is the Redis channel of a channel; its keys carry the same hash tag, so
//! that in a cluster a script's keys live on one node. A heartbeat has a channel per shard of a
//! process, without braces: it can never be mistaken for a user's channel.
//!
//! Keys belong to a database, publications do not: a subscriber gets those of all databases. So the
//! number is a part of the names of Redis channels, except for database 0, whose names are
//! unchanged.

use std::borrow::Cow;

use crate::{
    broker::{Principal, idempotency::Id},
    channel::ChannelName,
};

/// Builds names under one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    prefix: String,
    /// The same for channels.
    heard_prefix: String,
    process: String,
}

/// Names of a trial's own.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Meta, stream and idempotency key.
    pub(crate) keys: [String; 3],
    pub(crate) channel: String,
}

impl Names {
    /// `process` tells this process's heartbeats from others'.
    pub(crate) fn new(prefix: String, database: u8, process: String) -> Self {
        let heard_prefix = match database {
            0 => prefix.clone(),
            number => format!("{prefix}:@{number}"),
        };
        Self { prefix, heard_prefix, process }
    }

    /// Where publications of `channel` are published.
    pub(crate) fn channel(&self, channel: &ChannelName) -> String {
        format!("{}:{{{channel}}}", self.heard_prefix)
    }

    /// The hash with the channel's epoch, and the newest message's offset and nonce.
    pub(super) fn meta(&self, channel: &ChannelName) -> String {
        format!("{}:{{{channel}}}:meta", self.prefix)
    }

    /// The channel's newest messages.
    pub(super) fn stream(&self, channel: &ChannelName) -> String {
        format!("{}:{{{channel}}}:stream", self.prefix)
    }

    /// The keys of every script.
    pub(crate) fn keys(&self, channel: &ChannelName) -> Vec<String> {
        vec![self.meta(channel), self.stream(channel)]
    }

    /// The first answer to what was published with a key. A word of its own for each
    /// publisher: no key, whatever it holds, is another one's.
    pub(crate) fn idempotency(&self, id: &Id) -> String {
        let word = match id.publisher {
            // As it was called before keys had owners: processes of that time share it.
            Principal::Api => "idem".into(),
            Principal::Subject(digest) => Cow::from(format!("idem-{digest}")),
            Principal::Anonymous => "idem-anonymous".into(),
        };
        format!("{}:{{{}}}:{word}:{}", self.prefix, id.channel, id.key.as_str())
    }

    /// The lease of the bridge from the raw channel `raw`.
    pub(crate) fn bridge(&self, channel: &ChannelName, raw: &str) -> String {
        format!("{}:{{{channel}}}:bridge:{raw}", self.prefix)
    }

    /// The Redis channel that tells of it.
    pub(crate) fn marks(&self, channel: &ChannelName, raw: &str) -> String {
        format!("{}:{{{channel}}}:bridge:{raw}", self.heard_prefix)
    }

    /// The number of the last slot that anyone claimed.
    pub(crate) fn slot(&self, channel: &ChannelName, interval_ms: u64) -> String {
        format!("{}:{{{channel}}}:slot:{interval_ms}", self.prefix)
    }

    /// The name of the process that last said that it takes clients.
    pub(crate) fn presence(&self, channel: &ChannelName) -> String {
        format!("{}:{{{channel}}}:presence", self.prefix)
    }

    /// The ID of this process.
    pub(crate) fn process(&self) -> &str {
        &self.process
    }

    /// The parameters of a trial of publishing, under the hash tag `name`: keys that do not exist,
    /// and a channel without subscribers.
    pub(crate) fn trial(&self, name: &str) -> Trial {
        let key = |what: &str| format!("{}:{{{name}}}:trial:{what}", self.prefix);
        Trial {
            keys: [key("meta"), key("stream"), key("idem")],
            channel: format!("{}:{{{name}}}:trial", self.heard_prefix),
        }
    }

    /// The epochs of channels that nobody has published to.
    pub(crate) fn empty_epoch(&self, slot: &ChannelName) -> String {
        format!("{}:{{{slot}}}:era", self.prefix)
    }

    /// Where a shard's heartbeat goes and comes back.
    pub(crate) fn heartbeat(&self, shard: usize) -> String {
        format!("{}:heartbeat:{}:{shard}", self.heard_prefix, self.process)
    }

    /// The bearers of tokens that are kept out, by when that ends.
    pub(crate) fn bans(&self, slot: &ChannelName) -> String {
        format!("{}:{{{slot}}}:bans", self.prefix)
    }

    /// The moments of the last commands about them.
    pub(crate) fn ban_commands(&self, slot: &ChannelName) -> String {
        format!("{}:{{{slot}}}:ban-commands", self.prefix)
    }

    /// Where processes tell each other what to do. Without braces, as heartbeats.
    pub(crate) fn announcements(&self) -> String {
        format!("{}:announcements", self.heard_prefix)
    }

    /// Whether a name given by the operator could be one of ours.
    pub(crate) fn may_be_ours(&self, name: &str) -> bool {
        name.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with(':'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channels_keys_share_its_hash_tag() {
        let names = Names::new("wsbcast".into(), 0, "p".into());
        let channel = ChannelName::new("a:b").unwrap();
        assert_eq!(names.channel(&channel), "wsbcast:{a:b}");
        assert_eq!(names.meta(&channel), "wsbcast:{a:b}:meta");
        assert_eq!(names.stream(&channel), "wsbcast:{a:b}:stream");
        let key = crate::broker::IdempotencyKey::new("}{").unwrap();
        let id = |publisher| Id { publisher, channel: channel.clone(), key: key.clone() };
        assert_eq!(names.idempotency(&id(Principal::Api)), "wsbcast:{a:b}:idem:}{");
        let anonymous = names.idempotency(&id(Principal::Anonymous));
        assert_eq!(anonymous, "wsbcast:{a:b}:idem-anonymous:}{");
        let subject = names.idempotency(&id(Principal::of_subject(Some("alice"))));
        // The beginning of `printf salice | sha256sum`.
        assert_eq!(subject, "wsbcast:{a:b}:idem-5e0f217ada7a7a57cce1f1eff23dcba3:}{");
        assert_eq!(names.slot(&channel, 10_000), "wsbcast:{a:b}:slot:10000");
        assert_eq!(names.bridge(&channel, "raw"), "wsbcast:{a:b}:bridge:raw");
        assert_eq!(names.heartbeat(3), "wsbcast:heartbeat:p:3");
        assert_eq!(names.marks(&channel, "raw"), "wsbcast:{a:b}:bridge:raw");
        assert!(names.may_be_ours("wsbcast:{x}") && !names.may_be_ours("wsbcasts"));
    }

    #[test]
    fn publications_are_apart_wherever_keys_are() {
        let channel = ChannelName::new("a").unwrap();
        let names: Vec<Names> =
            (0..=255).map(|database| Names::new("wsbcast".into(), database, "p".into())).collect();
        let mut heard: Vec<String> = (names.iter())
            .flat_map(|names| {
                [
                    names.channel(&channel),
                    names.marks(&channel, "raw"),
                    names.heartbeat(0),
                    names.announcements(),
                ]
            })
            .collect();
        assert_eq!(heard[..2], ["wsbcast:{a}", "wsbcast:{a}:bridge:raw"]);
        assert_eq!(heard[4..6], ["wsbcast:@1:{a}", "wsbcast:@1:{a}:bridge:raw"]);
        assert!(
            heard.iter().all(|name| name.starts_with("wsbcast:")),
            "rights and the raw channel"
        );
        heard.sort_unstable();
        heard.dedup();
        assert_eq!(heard.len(), 4 * 256);
    }
}
