//! Exhausted resources: how far the figures of a run without losses can be trusted.
//!
//! A latency that the load's own lateness made, or a rate at which the load generator was out of
//! breath, is no figure of the server's, and a reader must not take it for one.

use super::Report;
use crate::{args::Mode, chart::Unit};

/// From this 99th percentile or longest on, what was sent late shows in the latency.
const LATE_P99_US: f64 = 10_000.0;
const LATE_MAX_US: f64 = 100_000.0;

impl Report {
    /// Why the figures are not the server's alone, in words; mostly empty.
    pub(crate) fn limits(&self) -> Vec<String> {
        let mut limits = Vec::new();
        let lateness = &self.published.lateness;
        let is_late = lateness.p99_us >= LATE_P99_US || lateness.max_us >= LATE_MAX_US;
        if self.scenario.mode == Mode::Live && is_late {
            limits.push(format!(
                "messages were sent up to {} after their time (p99 {}), and latency counts from \
                 that time: {}",
                Unit::Micros.words(lateness.max_us),
                Unit::Micros.words(lateness.p99_us),
                self.cause_of_lateness()
            ));
        } else if self.is_load_saturated() {
            limits.push(
                "the load generator used up its cores: the server may be capable of more"
                    .to_owned(),
            );
        }
        limits
    }

    fn is_load_saturated(&self) -> bool {
        matches!(self.saturated.as_str(), "load" | "both")
    }

    fn cause_of_lateness(&self) -> &'static str {
        match self.saturated.as_str() {
            "load" => "the load generator used up its cores",
            "both" => "the load generator and the server used up their cores",
            "server" => "the server used up its cores, and publishers waited for its answers",
            _ if self.published.answers.p99_us >= self.published.lateness.p99_us / 2.0 => {
                "publishers waited for the server's answers"
            }
            _ => "neither used up its cores, so something else held them",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn late(saturated: &str, answers_p99_us: f64) -> Report {
        let mut report = Report { saturated: saturated.to_owned(), ..Report::default() };
        report.published.lateness.max_us = 117_000.0;
        report.published.lateness.p99_us = 3_000.0;
        report.published.answers.p99_us = answers_p99_us;
        report
    }

    #[test]
    fn a_late_load_is_told_with_its_cause() {
        for (saturated, answers, cause) in [
            ("load", 0.0, "the load generator used up its cores"),
            ("server", 0.0, "the server used up its cores"),
            ("unknown", 2_000.0, "publishers waited"),
            ("neither", 100.0, "something else"),
        ] {
            let limits = late(saturated, answers).limits();
            assert!(limits[0].contains("117 ms") && limits[0].contains(cause), "{limits:?}");
        }
    }

    /// A load out of breath is told and one in time has no limits.
    #[test]
    fn an_overloaded_load_generator_is_told() {
        let report =
            |saturated: &str| Report { saturated: saturated.to_owned(), ..Report::default() };
        assert!(report("load").limits()[0].contains("load generator"));
        assert_eq!(report("server").limits(), Vec::<String>::new());
        assert_eq!(report("").limits(), Vec::<String>::new());
    }
}
