//! The timeline of a run: a look at counters, CPU and memory every slice.
//!
//! The conductor takes it, and sleeps otherwise; a late look is a longer slice, and rates are per
//! second of the slice as it was. Latencies are kept by the receiving threads and joined at the
//! end.

use std::sync::atomic::Ordering::Relaxed;

use testkit::{clock, machine};

use crate::{
    args::RunArgs,
    clients::{SLICES_MAX, Slice, Stage},
    report::Timeline,
};

/// The shortest slice, and the step of longer ones.
const SLICE_STEP_NS: u64 = 100_000_000;
/// Slices of a run that goes as planned; more only add bytes to the report.
const SLICES_PLANNED: u64 = 400;

/// How long a slice of this run is.
pub(super) fn slice_ns(args: &RunArgs) -> u64 {
    let planned_ns = args.warmup.ns() + args.seconds.ns();
    (planned_ns / SLICES_PLANNED).div_ceil(SLICE_STEP_NS).max(1) * SLICE_STEP_NS
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    at_ns: u64,
    deliveries: u64,
    accepted: u64,
    storm_upgraded: u64,
    server_cpu_ns: u64,
    load_cpu_ns: u64,
}

/// The last look, as shown to the user who watches.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Now {
    pub(super) published_per_second: f64,
    pub(super) deliveries_per_second: f64,
    pub(super) server_cores: f64,
    pub(super) server_rss_bytes: u64,
    pub(super) storm_per_second: f64,
}

/// The rows so far.
#[derive(Debug)]
pub(super) struct Recorder {
    rows: Timeline,
    started_ns: u64,
    slice_ns: u64,
    server_pids: Vec<u32>,
    last: Sample,
    pub(super) now: Now,
}

impl Recorder {
    /// From the start of the run on.
    pub(super) fn new(stage: &Stage, server_pids: &[u32]) -> Self {
        let Stage { started_ns, slice_ns, .. } = *stage;
        let rows = Timeline { slice_ms: slice_ns / 1_000_000, ..Timeline::default() };
        let server_pids = server_pids.to_vec();
        let mut recorder = Self {
            rows,
            started_ns,
            slice_ns,
            server_pids,
            last: Sample::default(),
            now: Now::default(),
        };
        recorder.last = recorder.sample(stage, 0);
        recorder.now.server_rss_bytes = machine::Memory::rss_bytes(&recorder.server_pids);
        recorder
    }

    /// When the next slice ends.
    pub(super) fn next_ns(&self) -> u64 {
        let slices = (self.last.at_ns.saturating_sub(self.started_ns)) / self.slice_ns + 1;
        self.started_ns + slices * self.slice_ns
    }

    /// Adds a row if a slice has ended.
    pub(super) fn look(&mut self, stage: &Stage, accepted: u64) {
        if clock::now_ns() < self.next_ns() || self.rows.at_ms.len() >= SLICES_MAX {
            return;
        }
        let sample = self.sample(stage, accepted);
        let last = std::mem::replace(&mut self.last, sample);
        let elapsed_ns = sample.at_ns.saturating_sub(last.at_ns).max(1) as f64;
        let per_second =
            |now: u64, before: u64| (now.saturating_sub(before) as f64 / elapsed_ns * 1e9).round();
        let cores = |now: u64, before: u64| {
            (now.saturating_sub(before) as f64 / elapsed_ns * 1e3).round() / 1e3
        };
        let now = Now {
            published_per_second: per_second(sample.accepted, last.accepted),
            deliveries_per_second: per_second(sample.deliveries, last.deliveries),
            storm_per_second: per_second(sample.storm_upgraded, last.storm_upgraded),
            server_cores: cores(sample.server_cpu_ns, last.server_cpu_ns),
            server_rss_bytes: machine::Memory::rss_bytes(&self.server_pids),
        };
        let opened = stage.sum(|counters| &counters.opened);
        let rows = &mut self.rows;
        rows.at_ms.push((sample.at_ns - self.started_ns) / 1_000_000);
        rows.connected.push(opened.saturating_sub(stage.sum(|counters| &counters.gone)));
        rows.published_per_second.push(now.published_per_second);
        rows.deliveries_per_second.push(now.deliveries_per_second);
        rows.storm_per_second.push(now.storm_per_second);
        rows.server_cores.push(now.server_cores);
        rows.load_cores.push(cores(sample.load_cpu_ns, last.load_cpu_ns));
        rows.server_rss_bytes.push(now.server_rss_bytes);
        self.now = now;
    }

    fn sample(&self, stage: &Stage, accepted: u64) -> Sample {
        Sample {
            at_ns: clock::now_ns(),
            deliveries: stage.sum(|counters| &counters.deliveries),
            accepted,
            storm_upgraded: stage.storm_upgraded.load(Relaxed),
            server_cpu_ns: machine::cpu_ns(&self.server_pids),
            load_cpu_ns: machine::cpu_ns(&[std::process::id()]),
        }
    }

    /// The whole timeline; `window_ns` is the measured part.
    pub(super) fn finish(self, slices: &[Slice], window_ns: (u64, u64)) -> Timeline {
        let ms = |ns: u64| ns.saturating_sub(self.started_ns) / 1_000_000;
        let row = |value: &dyn Fn(&Slice) -> Option<f64>| {
            slices.iter().map(|slice| value(slice).map(f64::round)).collect()
        };
        let mut rows = self.rows;
        if self.server_pids.is_empty() {
            rows.server_cores.clear();
            rows.server_rss_bytes.clear();
        }
        if rows.storm_per_second.iter().all(|rate| *rate == 0.0) {
            rows.storm_per_second.clear();
        }
        Timeline {
            window_from_ms: ms(window_ns.0),
            window_to_ms: ms(window_ns.1),
            latency_p50_us: row(&|slice| slice.quantile_us(0.5)),
            latency_p99_us: row(&|slice| slice.quantile_us(0.99)),
            latency_max_us: row(&|slice| slice.quantile_us(1.0)),
            ..rows
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::cli::Seconds;

    #[test]
    fn long_runs_have_longer_slices() {
        let of = |seconds| {
            slice_ns(&RunArgs {
                seconds: Seconds(seconds),
                warmup: Seconds(0.0),
                ..RunArgs::default()
            })
        };
        assert_eq!(
            (of(10.0), of(40.0), of(60.0)),
            (SLICE_STEP_NS, SLICE_STEP_NS, 2 * SLICE_STEP_NS)
        );
        assert_eq!(of(3600.0), 90 * SLICE_STEP_NS);
    }
}
