//! Figures are read from reports, and repeated ones become one with its spread.
//!
//! Reports are JSON here, since records of older versions are read too: a figure that a report
//! does not have is none, never a failure.

use serde_json::Value;

/// One quantity of a report.
#[derive(Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) label: &'static str,
    pub(crate) decimals: usize,
    pub(crate) of: fn(&Value) -> Option<f64>,
}

pub(crate) const CPU_PER_DELIVERY: Figure = Figure {
    label: "server CPU µs per delivery",
    decimals: 3,
    of: |report| delivers(report).then(|| number(report, "/server/cpu_us_per_delivery"))?,
};
pub(crate) const DELIVERIES: Figure = Figure {
    label: "deliveries/s",
    decimals: 0,
    of: |report| number(report, "/deliveries/per_second").filter(|rate| *rate > 0.0),
};
pub(crate) const P50: Figure =
    Figure { label: "p50 µs", decimals: 0, of: |report| latency(report, "p50_us") };
pub(crate) const P99: Figure =
    Figure { label: "p99 µs", decimals: 0, of: |report| latency(report, "p99_us") };
pub(crate) const RSS_PER_CLIENT: Figure = Figure {
    label: "RSS B per idle client",
    decimals: 0,
    of: |report| number(report, "/server/rss_bytes_per_idle_client"),
};
pub(crate) const RSS_MAX: Figure = Figure {
    label: "most RSS MiB",
    decimals: 1,
    of: |report| Some(number(report, "/server/rss_max_bytes")? / (1024.0 * 1024.0)),
};
pub(crate) const CPU_PER_CONNECT: Figure = Figure {
    label: "server CPU µs per connect",
    decimals: 1,
    of: |report| number(report, "/server/cpu_us_per_connect"),
};
/// Publishing and delivering together: what one message costs.
pub(crate) const CPU_PER_MESSAGE: Figure = Figure {
    label: "server CPU µs per message",
    decimals: 0,
    of: |report| {
        let messages =
            number(report, "/published/per_second")? * number(report, "/window_seconds")?;
        let micros = number(report, "/server/cpu/cpu_seconds")? * 1e6;
        (messages > 0.0).then_some(micros / messages)
    },
};

/// The lines of a comparison's table.
pub(crate) const FIGURES: &[Figure] = &[
    CPU_PER_DELIVERY,
    Figure { label: "of it user", decimals: 3, of: |report| share(report, "user_seconds") },
    Figure { label: "of it system", decimals: 3, of: |report| share(report, "system_seconds") },
    CPU_PER_MESSAGE,
    DELIVERIES,
    P50,
    P99,
    Figure { label: "p99.9 µs", decimals: 0, of: |report| latency(report, "p999_us") },
    RSS_PER_CLIENT,
    Figure {
        label: "anonymous B per idle client",
        decimals: 0,
        of: |report| number(report, "/server/anonymous_bytes_per_idle_client"),
    },
    Figure {
        label: "kernel B per idle client, both ends",
        decimals: 0,
        of: |report| number(report, "/server/kernel_bytes_per_idle_client"),
    },
    RSS_MAX,
    CPU_PER_CONNECT,
    Figure {
        label: "connects/s",
        decimals: 0,
        of: |report| {
            let seconds = number(report, "/clients/connect_seconds").filter(|_| is_idle(report))?;
            (seconds > 0.0).then_some(number(report, "/clients/opened")? / seconds)
        },
    },
    Figure {
        label: "of them by a ticket of TLS, %",
        decimals: 0,
        of: |report| {
            let resumed = number(report, "/clients/resumed").filter(|resumed| *resumed > 0.0)?;
            Some(resumed / number(report, "/clients/opened")? * 100.0)
        },
    },
    Figure { label: "storm: answered/s", decimals: 0, of: storm_answers },
    Figure {
        label: "storm: p99 ms from connect to 101",
        decimals: 1,
        of: |report| {
            number(report, "/storm/connect/count").filter(|count| *count > 0.0)?;
            Some(number(report, "/storm/connect/p99_us")? / 1e3)
        },
    },
    Figure {
        label: "server % of a core",
        decimals: 0,
        of: |report| Some(number(report, "/server/cpu/share_of_one_core")? * 100.0),
    },
    Figure {
        label: "load % of a core",
        decimals: 0,
        of: |report| Some(number(report, "/load/cpu/share_of_one_core")? * 100.0),
    },
    Figure {
        label: "load CPU µs per delivery",
        decimals: 3,
        of: |report| {
            delivers(report).then(|| number(report, "/load/receive_cpu_us_per_delivery"))?
        },
    },
];

/// A number at its place in the report.
pub(crate) fn number(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

/// The problems of a run, in words.
pub(crate) fn problems(report: &Value) -> Vec<String> {
    let problems = report.get("problems").and_then(Value::as_array);
    let words = problems.into_iter().flatten().filter_map(Value::as_str);
    words.map(str::to_owned).collect()
}

/// The saturated side.
pub(crate) fn saturated(report: &Value) -> &str {
    report.get("saturated").and_then(Value::as_str).unwrap_or("unknown")
}

fn delivers(report: &Value) -> bool {
    number(report, "/deliveries/in_window").is_some_and(|count| count > 0.0)
}

fn is_idle(report: &Value) -> bool {
    report.pointer("/scenario/mode").and_then(Value::as_str) == Some("idle")
}

/// Handshakes of the storm that had an answer, good or bad.
fn storm_answers(report: &Value) -> Option<f64> {
    let upgraded = number(report, "/storm/upgraded")?;
    let refused = report.pointer("/storm/refused")?.as_object()?;
    let refused: f64 = refused.values().filter_map(Value::as_f64).sum();
    let seconds = number(report, "/window_seconds").filter(|seconds| *seconds > 0.0)?;
    Some((upgraded + refused) / seconds)
}

fn latency(report: &Value, field: &str) -> Option<f64> {
    let latency = report.get("latency")?;
    let count = latency.get("count")?.as_f64()?;
    (count > 0.0).then(|| latency.get(field)?.as_f64())?
}

/// One kind of CPU time, µs per delivery.
fn share(report: &Value, field: &str) -> Option<f64> {
    let seconds = report.pointer("/server/cpu")?.get(field)?.as_f64()?;
    let deliveries = number(report, "/deliveries/in_window").filter(|count| *count > 0.0)?;
    Some(seconds * 1e6 / deliveries)
}

/// A figure over several rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Median and range; none of nothing.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Self { median, min, max })
    }

    /// Of the ratios between two servers, round by round: both ran in the same minute, so what
    /// the machine did meanwhile cancels out.
    pub(crate) fn of_ratios(values: &[Option<f64>], references: &[Option<f64>]) -> Option<Self> {
        let pairs = values.iter().zip(references);
        let ratios = pairs.filter_map(|(value, reference)| {
            let reference = reference.filter(|reference| *reference > 0.0)?;
            Some((*value)? / reference)
        });
        Self::of(ratios)
    }

    /// In another unit.
    pub(crate) fn divided(&self, by: f64) -> Self {
        Self { median: self.median / by, min: self.min / by, max: self.max / by }
    }

    /// Without its range.
    pub(crate) fn median_alone(&self) -> Self {
        Self { median: self.median, min: self.median, max: self.median }
    }

    /// `1.02 (1.00–1.05)`; one round has no range.
    pub(crate) fn words(&self, decimals: usize) -> String {
        let Self { median, min, max } = self;
        if min == max {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_median_is_of_all_rounds() {
        assert_eq!(Spread::of(vec![]), None);
        let odd = Spread::of(vec![9.0, 1.0, 2.0]);
        assert_eq!(odd, Some(Spread { median: 2.0, min: 1.0, max: 9.0 }));
        let even = Spread::of(vec![4.0, 1.0, 2.0, 9.0]);
        assert_eq!(even, Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(even.unwrap().words(1), "3.0 (1.0–9.0)");
    }

    #[test]
    fn ratios_are_of_runs_of_the_same_round() {
        // The machine was slow in the second round; the ratio of medians would be 4 / 3.
        let (ours, floor) = ([2.0, 9.0, 4.0].map(Some), [1.0, 3.0, 8.0].map(Some));
        let expected = Spread { median: 2.0, min: 0.5, max: 3.0 };
        assert_eq!(Spread::of_ratios(&ours, &floor), Some(expected));
        let missing = Spread::of_ratios(&[None, Some(9.0), None], &floor);
        assert_eq!(missing, Some(Spread { median: 3.0, min: 3.0, max: 3.0 }));
        assert_eq!(Spread::of_ratios(&ours, &[Some(0.0), None, None]), None);
    }

    #[test]
    fn figures_are_read_from_any_report() {
        let report = json!({
            "window_seconds": 10.0,
            "published": {"per_second": 50.0},
            "deliveries": {"in_window": 500_000, "per_second": 50_000.0},
            "latency": {"count": 500_000, "p50_us": 1.5, "p99_us": 2.5},
            "server": {
                "cpu": {"cpu_seconds": 2.0, "user_seconds": 0.5, "system_seconds": 1.5},
                "cpu_us_per_delivery": 4.0, "rss_max_bytes": 1_048_576,
            },
        });
        let value = |label: &str| {
            let figure = FIGURES.iter().find(|figure| figure.label == label).unwrap();
            (figure.of)(&report)
        };
        assert_eq!(value("server CPU µs per delivery"), Some(4.0));
        assert_eq!(value("of it user"), Some(1.0));
        assert_eq!(value("server CPU µs per message"), Some(4000.0));
        assert_eq!((value("p99 µs"), value("p99.9 µs")), (Some(2.5), None));
        assert_eq!(value("most RSS MiB"), Some(1.0));
        for figure in FIGURES {
            assert_eq!((figure.of)(&json!({})), None, "{}", figure.label);
        }
    }
}
