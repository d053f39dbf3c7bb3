//! The same facts as JSON: per shard, in total, and the process's own.
//!
//! `{"total":{…},"shards":[{…}],"process":{…}}`; names are those of `/metrics` without the prefix.
//! A metric with labels is an object keyed by its last label (by each of them, where the last one
//! is not unique); durations are in seconds.

use std::collections::HashSet;

use serde_json::{Map, Value as Json, json};

use super::{
    FANOUT_BUCKETS_US,
    family::{Distribution, Family, PREFIX, Sample, Total, Value, seconds},
};

/// All of `families`, as gathered from `shards` shards.
#[must_use]
pub fn render(families: &[Family], shards: usize) -> Json {
    let of_shards: Vec<_> = families.iter().filter(|family| is_of_shards(family)).collect();
    let of_process = families.iter().filter(|family| !is_of_shards(family));
    let shards: Vec<Json> = (0..shards)
        .map(|shard| {
            let own = |family: &Family| {
                let is_own = |sample: &&Sample| sample.shard == Some(shard);
                family.samples.iter().filter(is_own).cloned().collect::<Vec<_>>()
            };
            object(of_shards.iter().map(|family| (*family, own(family))))
        })
        .collect();
    let total = object(of_shards.iter().map(|family| (*family, totals(family))));
    let process = object(of_process.map(|family| (family, family.samples.clone())));
    json!({ "total": total, "shards": shards, "process": process })
}

fn is_of_shards(family: &Family) -> bool {
    family.samples.iter().any(|sample| sample.shard.is_some())
}

fn object<'a>(families: impl Iterator<Item = (&'a Family, Vec<Sample>)>) -> Json {
    let entry = |(family, samples): (&Family, Vec<Sample>)| {
        let name = family.name.strip_prefix(PREFIX).unwrap_or(&family.name);
        (name.to_owned(), member(name, &samples))
    };
    Json::Object(families.map(entry).collect())
}

fn member(name: &str, samples: &[Sample]) -> Json {
    match samples {
        // The labels are the information.
        [info] if name == "build_info" => {
            let labels = info.labels.iter();
            Json::Object(labels.map(|(name, value)| ((*name).to_owned(), json!(value))).collect())
        }
        [only] if only.labels.is_empty() => value(&only.value),
        _ => {
            let mut by_label = Map::new();
            let words = |sample: &Sample, last: usize| -> Vec<String> {
                let words = sample.labels.iter().rev().take(last);
                words.map(|(_, word)| word.to_string()).collect()
            };
            // Where the last label is not unique, all labels are used, each by itself.
            let lasts: HashSet<_> = samples.iter().map(|sample| words(sample, 1)).collect();
            let used = if lasts.len() == samples.len() { 1 } else { usize::MAX };
            for sample in samples {
                for word in words(sample, used) {
                    let before = by_label.get(&word).and_then(Json::as_u64);
                    let value = match (before, &sample.value) {
                        (Some(before), Value::Whole(more)) => json!(before + more),
                        (_, one) => value(one),
                    };
                    by_label.insert(word, value);
                }
            }
            Json::Object(by_label)
        }
    }
}

fn value(value: &Value) -> Json {
    match value {
        Value::Whole(value) => json!(value),
        Value::Real(value) => json!(value),
        Value::Histogram(Distribution { counts, sum_us }) => {
            let [bounded @ .., count] = counts;
            let bounds = FANOUT_BUCKETS_US.iter().map(|us| seconds(*us).to_string());
            let buckets: Map<_, _> = bounds.zip(bounded.iter().map(|count| json!(count))).collect();
            json!({ "count": count, "sum_seconds": seconds(*sum_us), "at_most_seconds": buckets })
        }
    }
}

/// The samples of all shards as one process's.
fn totals(family: &Family) -> Vec<Sample> {
    let mut totals: Vec<Sample> = Vec::new();
    for sample in &family.samples {
        match totals.iter_mut().find(|total| total.labels == sample.labels) {
            Some(total) => join(family.total, &mut total.value, &sample.value),
            None => totals.push(Sample { shard: None, ..sample.clone() }),
        }
    }
    totals
}

fn join(how: Total, total: &mut Value, value: &Value) {
    match (total, value) {
        (Value::Whole(total), Value::Whole(value)) => {
            *total = if how == Total::Max { *value.max(total) } else { *total + value };
        }
        (Value::Real(total), Value::Real(value)) => {
            *total = if how == Total::Max { value.max(*total) } else { *total + value };
        }
        (Value::Histogram(total), Value::Histogram(value)) => {
            for (total, value) in total.counts.iter_mut().zip(value.counts) {
                *total += value;
            }
            total.sum_us += value.sum_us;
        }
        (total, value) => {
            debug_assert!(false, "one metric's values are of one kind");
            *total = value.clone();
        }
    }
}
