//! The report's rows of numbers: what happened when, and how latencies are distributed.
//!
//! Rows are written on one line each, whatever the rest of the JSON looks like, and rounded to
//! what can be seen in a chart.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize, Serializer, ser::Error as _};
use serde_json::value::RawValue;

/// Points of the percentile curve between one nine and the next.
const POINTS_PER_NINE: u32 = 10;
/// Columns of the histogram per tenfold latency.
const COLUMNS_PER_DECADE: f64 = 20.0;

/// The figures of every `slice_ms`, from the first connect on; rows of one length, but for the
/// latencies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Timeline {
    pub(crate) slice_ms: u64,
    /// The measured window.
    pub(crate) window_from_ms: u64,
    pub(crate) window_to_ms: u64,
    /// When the row was read; rates are over the time since the one before.
    #[serde(serialize_with = "on_one_line")]
    pub(crate) at_ms: Vec<u64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) connected: Vec<u64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) published_per_second: Vec<f64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) deliveries_per_second: Vec<f64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) storm_per_second: Vec<f64>,
    /// 1.0 = one core.
    #[serde(serialize_with = "on_one_line")]
    pub(crate) server_cores: Vec<f64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) load_cores: Vec<f64>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) server_rss_bytes: Vec<u64>,
    /// By slice number, of the messages received in it; null without any.
    #[serde(serialize_with = "on_one_line")]
    pub(crate) latency_p50_us: Vec<Option<f64>>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) latency_p99_us: Vec<Option<f64>>,
    #[serde(serialize_with = "on_one_line")]
    pub(crate) latency_max_us: Vec<Option<f64>>,
}

/// All latencies of the window.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Distribution {
    /// (quantile, microseconds).
    #[serde(serialize_with = "on_one_line")]
    pub(crate) curve: Vec<(f64, f64)>,
    /// (from microseconds, messages); the last ends the one before it.
    #[serde(serialize_with = "on_one_line")]
    pub(crate) histogram: Vec<(f64, u64)>,
}

impl Distribution {
    /// Of a histogram of nanoseconds.
    pub(crate) fn of(histogram_ns: &Histogram<u64>) -> Self {
        if histogram_ns.is_empty() {
            return Self::default();
        }
        let micros = |quantile: f64| rounded(histogram_ns.value_at_quantile(quantile) as f64 / 1e3);
        let finest = 1.0 / histogram_ns.len() as f64;
        let mut curve: Vec<(f64, f64)> = (0..)
            .map(|at| 10_f64.powf(-f64::from(at) / f64::from(POINTS_PER_NINE)))
            .take_while(|beyond| *beyond > finest)
            .map(|beyond| (1.0 - beyond, micros(1.0 - beyond)))
            .collect();
        curve.push((1.0 - finest, micros(1.0)));
        Self { curve, histogram: columns(histogram_ns) }
    }
}

fn columns(histogram_ns: &Histogram<u64>) -> Vec<(f64, u64)> {
    let column = |ns: u64| ((ns.max(1) as f64 / 1e3).log10() * COLUMNS_PER_DECADE).floor() as i32;
    let from = |column: i32| rounded(10_f64.powf(f64::from(column) / COLUMNS_PER_DECADE));
    let (first, last) = (column(histogram_ns.min()), column(histogram_ns.max()));
    let mut columns: Vec<(f64, u64)> = (first..=last + 1).map(|at| (from(at), 0)).collect();
    for value in histogram_ns.iter_recorded() {
        let at = column(value.value_iterated_to()).clamp(first, last) - first;
        columns[at as usize].1 += value.count_at_value();
    }
    columns
}

/// A hundredth of a microsecond.
fn rounded(micros: f64) -> f64 {
    (micros * 100.0).round() / 100.0
}

fn on_one_line<T: Serialize, S: Serializer>(row: &T, serializer: S) -> Result<S::Ok, S::Error> {
    let text = serde_json::to_string(row).map_err(S::Error::custom)?;
    RawValue::from_string(text).map_err(S::Error::custom)?.serialize(serializer)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every message is in one column and the curve ends at the greatest.
    #[test]
    fn every_message_is_in_one_column() {
        let mut histogram = crate::clients::latencies();
        for micros in 1..=10_000_u64 {
            histogram.record(micros * 1000).unwrap();
        }
        let Distribution { curve, histogram: columns } = Distribution::of(&histogram);
        assert_eq!(columns.iter().map(|(_, count)| count).sum::<u64>(), 10_000);
        assert!(columns.windows(2).all(|pair| pair[0].0 < pair[1].0), "{columns:?}");
        assert!(curve.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1));
        assert!((curve.last().unwrap().1 / 10_000.0 - 1.0).abs() < 0.01);
    }

    #[test]
    fn rows_stand_on_one_line_and_come_back() {
        let timeline = Timeline {
            at_ms: vec![100, 200],
            latency_p99_us: vec![None, Some(1.5)],
            ..Timeline::default()
        };
        let text = serde_json::to_string_pretty(&timeline).unwrap();
        assert!(text.contains("\"at_ms\": [100,200],\n"), "{text}");
        let back: Timeline = serde_json::from_str(&text).unwrap();
        assert_eq!(back.latency_p99_us, [None, Some(1.5)]);
    }
}
