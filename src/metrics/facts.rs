//! All metrics, each defined once: name, kind, help, labels, and the source of its value.
//!
//! `/metrics` and `/stats` are two ways of writing the same [`Family`] values, so they can't
//! disagree. The shards' values are read from their cells; values that only the control thread
//! knows come in as [`ProcessFacts`]. Nothing here formats anything.

use std::{borrow::Cow, sync::Arc};

use super::{
    Counters, Dismissed, EncodingWord, Histogram, Limit, Placed, PublishFailure, Rejection,
    Resumed, Scope, ShardMetrics, SlowAction, Source, TlsHandshake, TokenResult, broker,
    certificates,
    family::{
        Distribution, Family, MetricKind, PREFIX, ProcessFacts, Sample, Total, Value,
        process_family, seconds,
    },
    upgrades,
};
use crate::ws::close::CloseReason;

/// Reads everything.
#[must_use]
pub fn gather(shards: &[Arc<ShardMetrics>], process: &ProcessFacts) -> Vec<Family> {
    let mut families: Vec<_> = SHARD_ROWS.iter().map(|row| row.family(shards)).collect();
    families.extend(process_families(process));
    families.push(tokens_verified(process));
    families.extend(upgrades::families(process));
    #[cfg(target_os = "linux")]
    families.extend(super::process::families());
    families
}

type Labels = Vec<(&'static str, Cow<'static, str>)>;
type ShardSamples = Vec<(Labels, Value)>;

/// A metric of each shard.
struct ShardMetric {
    name: &'static str,
    kind: MetricKind,
    total: Total,
    help: &'static str,
    read: fn(&ShardMetrics) -> ShardSamples,
}

impl ShardMetric {
    fn family(&self, shards: &[Arc<ShardMetrics>]) -> Family {
        let samples = shards.iter().enumerate().flat_map(|(shard, cells)| {
            let with_shard = move |(labels, value)| Sample { shard: Some(shard), labels, value };
            (self.read)(cells).into_iter().map(with_shard)
        });
        Family {
            name: format!("{PREFIX}{}", self.name).into(),
            help: self.help,
            kind: self.kind,
            total: self.total,
            samples: samples.collect(),
        }
    }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    read: fn(&ShardMetrics) -> ShardSamples,
) -> ShardMetric {
    ShardMetric { name, kind: MetricKind::Counter, total: Total::Sum, help, read }
}

const fn gauge(
    name: &'static str,
    total: Total,
    help: &'static str,
    read: fn(&ShardMetrics) -> ShardSamples,
) -> ShardMetric {
    ShardMetric { name, kind: MetricKind::Gauge, total, help, read }
}

const SHARD_ROWS: [ShardMetric; 22] = [
    gauge("connections", Total::Sum, "Clients connected now.", |cells| {
        whole(cells.connections.get())
    }),
    counter("connections_opened_total", "Clients that connected.", |cells| {
        whole(cells.connections_opened.get())
    }),
    counter(
        "connections_placed_total",
        "Connections that came in on another shard's socket, by why they are served here.",
        |cells| by_word("why", Placed::WORDS, &cells.connections_placed),
    ),
    counter("tls_handshakes_total", "Handshakes of TLS that ended, by how.", |cells| {
        by_word("result", TlsHandshake::WORDS, &cells.tls_handshakes)
    }),
    counter(
        "http_connections_dismissed_total",
        "HTTP connections closed to make room for others, by what they were.",
        |cells| by_word("reason", Dismissed::WORDS, &cells.http_dismissed),
    ),
    counter(
        "connections_closed_total",
        "Clients that left, by the close code sent (none: the client's own, or no Close frame) \
         and the reason.",
        closed,
    ),
    counter("handshakes_rejected_total", "Handshakes not answered 101, by reason.", |cells| {
        by_word("reason", Rejection::WORDS, &cells.handshakes_rejected)
    }),
    counter("limited_total", "Limits of addresses and clients that were passed.", limited),
    counter(
        "published_total",
        "Messages published through this process, by source and by whom they reach.",
        published,
    ),
    counter("publish_failures_total", "Messages not (surely) published, by reason.", |cells| {
        by_word("reason", PublishFailure::WORDS, &cells.publish_failures)
    }),
    counter(
        "client_messages_dropped_total",
        "Clients' own messages dropped because --client-publish is off.",
        |cells| whole(cells.client_messages_dropped.get()),
    ),
    counter(
        "frames_encoded_total",
        "Messages encoded into a log, once per shard and encoding.",
        |cells| by_word("encoding", EncodingWord::WORDS, &cells.frames_encoded),
    ),
    counter("resumes_total", "Channels asked for with history, by what there was.", |cells| {
        by_word("result", Resumed::WORDS, &cells.resumes)
    }),
    counter("replayed_messages_total", "Messages of history given to clients.", |cells| {
        whole(cells.replayed_messages.get())
    }),
    counter("deliveries_total", "Messages handed to the kernel, one per client.", |cells| {
        whole(cells.deliveries.get())
    }),
    counter("delivered_bytes_total", "Bytes handed to the kernel for clients.", |cells| {
        whole(cells.delivered_bytes.get())
    }),
    ShardMetric {
        name: "fanout_seconds",
        kind: MetricKind::Histogram,
        total: Total::Sum,
        help: "From a message's arrival at the shard to the write to its last ready client.",
        read: |cells| vec![(Vec::new(), Value::Histogram(distribution(&cells.fanout)))],
    },
    counter("slow_consumers_total", "Clients that fell behind their log, by action.", |cells| {
        by_word("action", SlowAction::WORDS, &cells.slow_consumers)
    }),
    counter("skipped_messages_total", "Messages that skipping clients did not get.", |cells| {
        whole(cells.skipped_messages.get())
    }),
    counter(
        "unheld_messages_total",
        "Messages too large for --backlog-total, by shard.",
        |cells| whole(cells.unheld_messages.get()),
    ),
    gauge(
        "backlog_bytes",
        Total::Sum,
        "Bytes in logs, carried frame ends and unfinished messages.",
        |cells| whole(cells.backlog_bytes.get()),
    ),
    gauge(
        "shard_loop_lag_seconds",
        Total::Max,
        "How late the shard's loop was at its last beat.",
        |cells| vec![(Vec::new(), Value::Real(seconds(cells.loop_lag_us.get())))],
    ),
];

fn process_families(facts: &ProcessFacts) -> Vec<Family> {
    let build = vec![("version", facts.version.into()), ("commit", facts.commit.into())];
    let one = |value| vec![Sample { shard: None, labels: Vec::new(), value }];
    let family = process_family;
    let whole = |value| one(Value::Whole(value));
    let count = |name, help, value| family(name, MetricKind::Counter, help, whole(value));
    let mut families = vec![
        family(
            "broker_connected",
            MetricKind::Gauge,
            "1 while the broker is within reach, else 0.",
            one(Value::Whole(facts.broker_connected.into())),
        ),
        count("broker_reconnects_total", "Times the broker came back.", facts.broker_reconnects),
        family(
            "broker_gaps_total",
            MetricKind::Counter,
            "Holes in what the broker sent, by whether they could be filled.",
            broker::gaps(facts),
        ),
        family(
            "broker_dropped_messages_total",
            MetricKind::Counter,
            "Messages from the broker that were dropped: come twice, or written by others.",
            dropped(facts),
        ),
        family(
            "broker_refusals_total",
            MetricKind::Counter,
            "Commands that the broker refused, by why.",
            broker::refusals(facts),
        ),
        family(
            "broker_lag_seconds",
            MetricKind::Gauge,
            "How long the last heartbeat took through the broker and back.",
            one(Value::Real(facts.broker_lag_seconds)),
        ),
        count(
            "raw_handovers_total",
            "Times the raw channel was taken over after a process had lost it.",
            facts.raw_handovers,
        ),
        count(
            "log_lines_dropped_total",
            "Log lines dropped since nobody took them in time, or they could not be written.",
            facts.log_lines_dropped,
        ),
        family(
            "drain_phase",
            MetricKind::Gauge,
            "0 serving, 1 pre-delay, 2 waiting, 3 closing, 4 stopped.",
            one(Value::Whole(facts.drain_phase as u64)),
        ),
        family(
            "drain_remaining_connections",
            MetricKind::Gauge,
            "Clients that still hold the drain.",
            one(Value::Whole(facts.drain_remaining_connections)),
        ),
        family(
            "build_info",
            MetricKind::Gauge,
            "Always 1; version and commit are in the labels.",
            vec![Sample { shard: None, labels: build, value: Value::Whole(1) }],
        ),
    ];
    families.extend(broker::evicted(facts).into_iter().chain(certificates::families(facts)));
    families
}

/// The verifier counts for itself.
fn tokens_verified(facts: &ProcessFacts) -> Family {
    process_family(
        "tokens_verified_total",
        MetricKind::Counter,
        "Tokens that were shown, by the outcome.",
        broker::process_by_word("result", TokenResult::WORDS, &facts.tokens_verified),
    )
}

fn dropped(facts: &ProcessFacts) -> Vec<Sample> {
    broker::process_by_word("reason", &["duplicate", "foreign"], &facts.broker_dropped)
}

fn whole(value: u64) -> ShardSamples {
    vec![(Vec::new(), Value::Whole(value))]
}

fn by_word<const N: usize>(
    label: &'static str,
    words: &'static [&'static str],
    counters: &Counters<N>,
) -> ShardSamples {
    let read = |(place, word): (usize, &&'static str)| {
        (vec![(label, Cow::Borrowed(*word))], Value::Whole(counters.get(place)))
    };
    words.iter().enumerate().map(read).collect()
}

fn limited(cells: &ShardMetrics) -> ShardSamples {
    let read = |limit: Limit| {
        let labels = vec![("reason", limit.reason().into()), ("limit", limit.word().into())];
        (labels, Value::Whole(cells.limited.get(limit as usize)))
    };
    Limit::ALL.into_iter().map(read).collect()
}

fn published(cells: &ShardMetrics) -> ShardSamples {
    let read = |source: Source| {
        [Scope::Cluster, Scope::Local].map(|scope| {
            let scope_word = scope.word().into();
            let labels = vec![("source", source.word().into()), ("scope", scope_word)];
            (labels, Value::Whole(cells.published.get(source, scope)))
        })
    };
    [Source::Http, Source::Redis, Source::Client, Source::Periodic]
        .into_iter()
        .flat_map(read)
        .collect()
}

fn closed(cells: &ShardMetrics) -> ShardSamples {
    let read = |reason: CloseReason| {
        let code = reason.code().map_or(Cow::Borrowed("none"), |code| code.to_string().into());
        let labels = vec![("code", code), ("reason", reason.word().into())];
        (labels, Value::Whole(cells.connections_closed.get(reason as usize)))
    };
    CloseReason::ALL.into_iter().map(read).collect()
}

fn distribution(histogram: &Histogram) -> Distribution {
    let mut counts = histogram.buckets();
    for place in 1..counts.len() {
        counts[place] += counts[place - 1];
    }
    Distribution { counts, sum_us: histogram.sum_us() }
}
