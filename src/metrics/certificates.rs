//! The certificates of the public listeners, as families: until when they are valid.
//!
//! The control thread knows them; here they get names and help. Nothing is counted here.

use super::{
    broker::process_by_word,
    family::{CertificateFacts, Family, MetricKind, ProcessFacts, Sample, Value, process_family},
};

pub(super) fn families(facts: &ProcessFacts) -> [Family; 2] {
    let CertificateFacts { not_after, reloads } = &facts.certificates;
    let end = |(file, seconds): &(String, u64)| Sample {
        shard: None,
        labels: vec![("certificate", file.clone().into())],
        value: Value::Whole(*seconds),
    };
    [
        process_family(
            "certificate_not_after_timestamp_seconds",
            MetricKind::Gauge,
            "End of the validity of each certificate in use, seconds since the Unix epoch.",
            not_after.iter().map(end).collect(),
        ),
        process_family(
            "certificate_reloads_total",
            MetricKind::Counter,
            "Looks at the files of certificates that found others, by what became of these.",
            process_by_word("result", &["taken", "refused"], reloads),
        ),
    ]
}
