//! The broker's counters, as families.
//!
//! The broker counts for itself, and the control thread reads its counts into `ProcessFacts`; here
//! they get names and help. Nothing is counted here.

use super::{
    BrokerRefusal,
    family::{Family, MetricKind, ProcessFacts, Sample, Value, process_family},
};

/// Evictions from histories for want of room.
pub(super) fn evicted(facts: &ProcessFacts) -> [Family; 2] {
    let count = |name, help, value| {
        let sample = Sample { shard: None, labels: Vec::new(), value: Value::Whole(value) };
        process_family(name, MetricKind::Counter, help, vec![sample])
    };
    let [messages, channels] = facts.history_evicted;
    [
        count(
            "history_evicted_messages_total",
            "Messages of history forgotten since all histories took up too much.",
            messages,
        ),
        count(
            "history_evicted_channels_total",
            "Channels whose history was forgotten since there were too many.",
            channels,
        ),
    ]
}

pub(super) fn gaps(facts: &ProcessFacts) -> Vec<Sample> {
    let counts = [facts.broker_gaps_repaired, facts.broker_gaps_unrepaired];
    process_by_word("repaired", &["true", "false"], &counts)
}

pub(super) fn refusals(facts: &ProcessFacts) -> Vec<Sample> {
    process_by_word("reason", BrokerRefusal::WORDS, &facts.broker_refusals)
}

/// A count for each of `words`, the values of `label`.
pub(super) fn process_by_word(
    label: &'static str,
    words: &[&'static str],
    counts: &[u64],
) -> Vec<Sample> {
    let sample = |(&word, &count): (&&'static str, &u64)| Sample {
        shard: None,
        labels: vec![(label, word.into())],
        value: Value::Whole(count),
    };
    words.iter().zip(counts).map(sample).collect()
}
