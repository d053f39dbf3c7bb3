//! The rights that a verified token gives: plain data, shared by all that showed the same token.

use serde::{Deserialize, Serialize};

use crate::channel::ChannelPatterns;

/// The channels that the bearer of a token may use, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// The channels that may be listened to.
    pub subscribe: ChannelPatterns,
    /// The channels that may be published to.
    pub publish: ChannelPatterns,
    /// The claim `sub` (RFC 7519 §4.1.2): the bearer, in the issuer's words.
    pub sub: Option<Box<str>>,
    /// The claim `jti` (RFC 7519 §4.1.7): which token this is.
    pub jti: Option<Box<str>>,
    /// The claim `exp`, seconds since the Unix epoch, rounded down: from then on the token is void.
    /// `None` only where tokens without it are allowed.
    pub expires_at: Option<u64>,
    /// When the token was verified, seconds since the Unix epoch; earlier than the request at hand
    /// if the token was shown before.
    pub verified_at: u64,
}

impl Rights {
    /// The memory that they take, without what an allocator adds.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let texts = [&self.sub, &self.jti].map(|text| text.as_ref().map_or(0, |text| text.len()));
        let patterns = self.subscribe.heap_bytes() + self.publish.heap_bytes();
        size_of::<Self>() + patterns + texts.iter().sum::<usize>()
    }

    /// Whether the token is void at `unix_secs`: there is no leeway.
    #[must_use]
    pub fn is_expired_at(&self, unix_secs: u64) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= unix_secs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rights are handed to another process as they are.
    #[test]
    fn rights_can_be_written_down_and_restored() {
        let rights = Rights {
            subscribe: ChannelPatterns::all(),
            publish: ChannelPatterns::default(),
            sub: Some("user:7".into()),
            jti: None,
            expires_at: Some(2000),
            verified_at: 1000,
        };
        let text = serde_json::to_string(&rights).unwrap();
        assert_eq!(serde_json::from_str::<Rights>(&text).unwrap(), rights, "{text}");
        assert!(!rights.is_expired_at(1999) && rights.is_expired_at(2000));
        assert!(!Rights { expires_at: None, ..rights }.is_expired_at(u64::MAX));
    }
}
