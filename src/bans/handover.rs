//! The table of bans on its way to another process, as plain data.
//!
//! All of it goes, also bans that are over: of a command that Redis has not heard of it is still to
//! be told. The other process may have learnt from Redis already: of two commands the later one
//! counts, and one that only the giving process knows counts as later than what Redis has said, as
//! it did there; Redis then decides.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Bans, BansFull, Bearer, Entry, Given};
use crate::{clock::Millis, limits::BANS_HEARD_MAX};

/// All bans that a process knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BansRecord {
    /// In no order.
    #[serde(default)]
    pub bans: Vec<BanRecord>,
}

/// The last command about a bearer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRecord {
    /// Of whom.
    pub bearer: Bearer,
    /// The time for which the bearer is still kept out; 0: it is over.
    pub left_ms: u64,
    /// All processes know it: when it was given, by Redis' clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<u64>,
    /// The time since a command that only this process knows.
    #[serde(default)]
    pub ago_ms: u64,
}

impl Bans {
    /// All bans, for another process.
    #[must_use]
    pub fn record(&self) -> BansRecord {
        let (table, now) = (self.table(), self.now());
        let ban = |(bearer, entry): (&Bearer, &Entry)| {
            let Entry { until, given } = *entry;
            let (stamp, ago) = match given {
                Given::Shared(stamp) => (Some(stamp), Duration::ZERO),
                Given::Local(given) => (None, now - given),
            };
            let (left_ms, ago_ms) = (millis(until - now), millis(ago));
            BanRecord { bearer: bearer.clone(), left_ms, stamp, ago_ms }
        };
        BansRecord { bans: table.entries.iter().map(ban).collect() }
    }

    /// Takes over the bans of another process.
    ///
    /// # Errors
    /// When they do not all have room; then some are let in.
    pub fn restore(&self, record: BansRecord) -> Result<(), BansFull> {
        let (mut taken, mut is_unshared) = (Ok(()), false);
        for BanRecord { bearer, left_ms, stamp, ago_ms } in record.bans {
            let now = self.now();
            let local = Given::Local(Millis(now.0.saturating_sub(ago_ms)));
            let given = stamp.map_or(local, Given::Shared);
            let entry = Entry { until: now + Duration::from_millis(left_ms), given };
            is_unshared |= stamp.is_none();
            let is_later = |known| match (known, stamp) {
                (Given::Shared(known), Some(stamp)) => known <= stamp,
                (Given::Local(_), Some(_)) => false,
                (_, None) => true,
            };
            let put = self.put(&bearer, entry, BANS_HEARD_MAX, is_later);
            taken = taken.and(put);
        }
        if is_unshared {
            self.has_unshared.notify_one();
        }
        taken
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
