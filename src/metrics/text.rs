//! Prometheus' text format, version 0.0.4.
//!
//! Writes [`Family`] values and decides nothing: no name, no value comes from here.

use std::fmt::Write;

use super::{
    FANOUT_BUCKETS_US,
    family::{Distribution, Family, MetricKind, Sample, Value, seconds},
};

/// The answer's `Content-Type`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All of `families`, each with its help and type.
#[must_use]
pub fn render(families: &[Family]) -> String {
    let mut text = String::new();
    for family in families {
        let Family { name, help, .. } = family;
        let kind = match family.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        write_line(&mut text, format_args!("# HELP {name} {help}"));
        write_line(&mut text, format_args!("# TYPE {name} {kind}"));
        for sample in &family.samples {
            render_sample(&mut text, name, sample);
        }
    }
    text
}

fn render_sample(text: &mut String, name: &str, sample: &Sample) {
    match &sample.value {
        Value::Whole(value) => {
            write_line(text, format_args!("{name}{} {value}", labels(sample, None)));
        }
        Value::Real(value) => {
            write_line(text, format_args!("{name}{} {value}", labels(sample, None)));
        }
        Value::Histogram(distribution) => render_histogram(text, name, sample, distribution),
    }
}

fn render_histogram(text: &mut String, name: &str, sample: &Sample, values: &Distribution) {
    let bounds = FANOUT_BUCKETS_US.iter().map(|us| seconds(*us).to_string());
    let bounds = bounds.chain(["+Inf".to_owned()]);
    for (bound, count) in bounds.zip(values.counts) {
        let labels = labels(sample, Some(&bound));
        write_line(text, format_args!("{name}_bucket{labels} {count}"));
    }
    let labels = labels(sample, None);
    let [.., all] = values.counts;
    write_line(text, format_args!("{name}_sum{labels} {}", seconds(values.sum_us)));
    write_line(text, format_args!("{name}_count{labels} {all}"));
}

/// `{shard="0",reason="restart"}`, or nothing where there are no labels.
fn labels(sample: &Sample, bound: Option<&str>) -> String {
    let shard = sample.shard.map(|shard| ("shard", shard.to_string()));
    let own = sample.labels.iter().map(|(name, value)| (*name, escape(value)));
    let bound = bound.map(|bound| ("le", bound.to_owned()));
    let all: Vec<_> = shard
        .into_iter()
        .chain(own)
        .chain(bound)
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn write_line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a String succeeds");
}
