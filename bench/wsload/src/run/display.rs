//! The terminal's display during a run: two lines that change in place.
//!
//! Drawn on a terminal only, by the conductor's thread, ten times a second at most.

use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::timeline::Now;
use crate::{
    args::{Mode, RunArgs},
    clients::Stage,
};

const DRAWS_PER_SECOND: u8 = 10;

/// The lines.
#[derive(Debug)]
pub(super) struct Display {
    bar: ProgressBar,
    has_server: bool,
}

impl Display {
    /// Of a run that is about to begin.
    pub(super) fn new(args: &RunArgs) -> Self {
        let target = match args.report.json {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr_with_hz(DRAWS_PER_SECOND),
        };
        let seconds = match args.mode {
            Mode::Idle => args.seconds.0,
            Mode::Live | Mode::Burst => args.warmup.0 + args.seconds.0,
        };
        let bar = ProgressBar::with_draw_target(Some((seconds * 1e3) as u64), target);
        let template = "{prefix:>12} {bar:40} {percent:>3} %  {elapsed_precise}\n{msg}";
        let style = ProgressStyle::with_template(template);
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = bar.with_style(style.progress_chars("━╸─")).with_prefix("connecting");
        Self { bar, has_server: !args.server_pid.is_empty() }
    }

    /// The next part of the run.
    pub(super) fn phase(&self, word: &'static str) {
        self.bar.set_prefix(word);
    }

    /// So much of the planned time has passed.
    pub(super) fn passed(&self, time: Duration) {
        self.bar.set_position(time.as_millis() as u64);
    }

    /// Shows where the run is.
    pub(super) fn show(&self, stage: &Stage, now: &Now) {
        if !self.bar.is_hidden() {
            self.bar.set_message(self.text(stage, now));
        }
    }

    /// Nothing is left on the terminal.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    fn text(&self, stage: &Stage, now: &Now) -> String {
        let opened = stage.sum(|c| &c.opened);
        let connected = opened.saturating_sub(stage.sum(|c| &c.gone));
        let failed = stage.sum(|c| &c.failed);
        let mut parts = vec![format!("{} clients", HumanCount(connected))];
        if failed > 0 {
            parts.push(format!("{failed} failed"));
        }
        if stage.timed_ns.get().is_some() {
            let millis = |us: u64| us as f64 / 1e3;
            parts.push(format!("{:.0} msg/s", now.published_per_second));
            parts.push(format!("{} deliveries/s", HumanCount(now.deliveries_per_second as u64)));
            parts.push(format!(
                "p50 {:.1} ms  p99 {:.1} ms",
                millis(stage.max(|c| &c.p50_us)),
                millis(stage.max(|c| &c.p99_us))
            ));
        }
        if now.storm_per_second > 0.0 {
            parts.push(format!("{} reconnects/s", HumanCount(now.storm_per_second as u64)));
        }
        if self.has_server {
            parts.push(format!(
                "server {:.0} % CPU, {:.1} MiB",
                now.server_cores * 100.0,
                now.server_rss_bytes as f64 / (1024.0 * 1024.0)
            ));
        }
        format!("{:>12} {}", "", parts.join("   "))
    }
}
