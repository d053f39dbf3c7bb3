//! Upgrades in place, as families.
//!
//! Counts are kept in `upgrade_counts`; here they get names and help. Nothing is counted here.

use super::{
    broker::process_by_word,
    family::{Family, MetricKind, ProcessFacts, Sample, Value, process_family, seconds},
    upgrade_counts::{UpgradeRecord, UpgradeResult},
};

pub(super) fn families(facts: &ProcessFacts) -> [Family; 3] {
    let UpgradeRecord { done, rolled_back, refused, pause_us, clients_taken_over } = facts.upgrades;
    let one = |value| vec![Sample { shard: None, labels: Vec::new(), value }];
    let results = process_by_word("result", UpgradeResult::WORDS, &[done, rolled_back, refused]);
    [
        process_family(
            "upgrades_total",
            MetricKind::Counter,
            "Upgrades in place, by the outcome; the new process goes on to count.",
            results,
        ),
        process_family(
            "upgrade_pause_seconds",
            MetricKind::Gauge,
            "How long nobody served at the last upgrade in place; 0 if there was none.",
            one(Value::Real(seconds(pause_us))),
        ),
        process_family(
            "clients_taken_over_total",
            MetricKind::Counter,
            "Clients that came from the process before, by upgrades in place.",
            one(Value::Whole(clients_taken_over)),
        ),
    ]
}
