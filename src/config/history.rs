//! Checks of the options about the history that is kept for clients that come back.

use std::{ops::RangeInclusive, time::Duration};

use super::{args, checker::Checker};
use crate::broker::HistorySettings;

const MIB: u64 = 1024 * 1024;
const MESSAGES: RangeInclusive<u64> = 0..=1_000_000;
const BYTES: RangeInclusive<u64> = 0..=64 * 1024 * MIB;
const TTL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(7 * 24 * 60 * 60);

pub(super) fn check(checker: &mut Checker, typed: &args::HistoryOptions) -> HistorySettings {
    let history = HistorySettings {
        messages_max: checker.number("history-size", &typed.history_size, MESSAGES),
        bytes_max: checker.size("history-bytes", &typed.history_bytes, BYTES),
        total_bytes_max: checker.size("history-total", &typed.history_total, BYTES),
        ttl: checker.duration("history-ttl", &typed.history_ttl, TTL),
    };
    let are_good = checker.are_good(&["history-bytes", "history-total"]);
    if are_good && history.total_bytes_max < history.bytes_max {
        let reason = format!("must be at least --history-bytes, which is {}", typed.history_bytes);
        checker.refuse("history-total", &typed.history_total, reason);
    }
    history
}
