//! The longest connected clients that still hold the drain, for the operator who waits for its end.
//!
//! Each shard reports its own from time to time, and the control thread merges them. The result is
//! a snapshot, not an account: the barrier alone decides.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::{
    clock::Millis,
    limits::{CHANNELS_NAMED, HOLDERS_NAMED},
};

/// One client that holds the drain open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The peer's address; None if the system does not know it.
    pub address: Option<SocketAddr>,
    /// When it connected.
    pub since: Millis,
    /// The first few of its channels.
    pub channels: Vec<String>,
    /// The number of its channels.
    pub channels_total: usize,
}

/// The longest connected clients, by shard.
#[derive(Debug, Default)]
pub struct Holders(Mutex<BTreeMap<usize, Vec<Holder>>>);

impl Holders {
    /// `shard` has these clients, and maybe more.
    pub fn tell(&self, shard: usize, holders: Vec<Holder>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(shard, holders);
    }

    /// Nobody holds a drain any more.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The [`HOLDERS_NAMED`] longest connected clients, in words; None if no shard reported any.
    #[must_use]
    pub fn in_words(&self, now: Millis) -> Option<String> {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<&Holder> = shards.values().flatten().collect();
        all.sort_by_key(|holder| holder.since);
        let words = all.iter().take(HOLDERS_NAMED).map(|holder| Words(holder, now).to_string());
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join("; "))
    }
}

/// `127.0.0.1:5000 for 2h 3m on news, scores and 7 more`.
struct Words<'a>(&'a Holder, Millis);

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(holder, now) = self;
        match holder.address {
            Some(address) => write!(f, "{address}")?,
            None => f.write_str("(unknown address)")?,
        }
        let seconds = Duration::from_secs((*now - holder.since).as_secs());
        write!(f, " for {}", humantime::format_duration(seconds))?;
        let named = holder.channels.len().min(CHANNELS_NAMED);
        if named > 0 {
            write!(f, " on {}", holder.channels[..named].join(", "))?;
        }
        match holder.channels_total - named {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(port: u16, since_s: u64, channels: &[&str], channels_total: usize) -> Holder {
        Holder {
            address: Some(([10, 0, 0, 1], port).into()),
            since: Millis(since_s * 1000),
            channels: channels.iter().map(|&name| name.to_owned()).collect(),
            channels_total,
        }
    }

    /// The longest connected of all shards are named with address time and channels.
    #[test]
    fn the_longest_connected_are_named() {
        let holders = Holders::default();
        assert_eq!(holders.in_words(Millis(0)), None);
        holders.tell(1, vec![holder(1, 90, &["news"], 1)]);
        holders.tell(0, vec![holder(2, 30, &["a", "b", "c"], 10), holder(3, 95, &[], 0)]);
        let words = holders.in_words(Millis(100_000)).unwrap();
        let expected = "10.0.0.1:2 for 1m 10s on a, b, c and 7 more; 10.0.0.1:1 for 10s on news; \
             10.0.0.1:3 for 5s";
        assert_eq!(words, expected);
        holders.tell(0, Vec::new());
        assert_eq!(holders.in_words(Millis(100_000)).unwrap(), "10.0.0.1:1 for 10s on news");
    }
}
