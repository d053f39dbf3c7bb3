//! The course of a drain as far as it can be told beforehand: what comes when, and for how many.
//!
//! Nobody knows who will leave. Where the rate is known at which clients leave it is taken to go
//! on until closing begins; elsewhere all that are there now are taken to stay.

use serde::Serialize;

use super::{
    pace::closing_span,
    state::{DrainState, Phase},
};
use crate::clock::Millis;

/// A drain as it would go.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Forecast {
    /// The phases to come, the present one first. The process has ended after the last.
    pub phases: Vec<PhaseSpan>,
    /// Clients that are still there when closing begins, or at the hard limit if nothing is closed
    /// before.
    pub left_at_closing: u64,
    /// The pace of closing; `None` where nobody is closed before the hard limit.
    pub closes_per_second: Option<f64>,
    /// Clients that would be closed with 1012, paced.
    pub closed_1012: u64,
    /// Clients that would be closed with 1001 at the hard limit.
    pub closed_1001: u64,
}

/// When a phase begins, and how long it lasts if clients stay.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PhaseSpan {
    /// The phase.
    pub phase: Phase,
    /// From now until it begins.
    pub in_seconds: f64,
    /// From then until the next one, or until the end.
    pub seconds: f64,
}

/// The course of `drain`, as it is at `now`, with so many clients; `rate` of them leave in a
/// second, if that is known.
#[must_use]
pub fn forecast(drain: &DrainState, now: Millis, clients: u64, rate: Option<f64>) -> Forecast {
    let closing_from = drain.closing_from.max(now);
    let window = drain.closing_until() - closing_from;
    let span = closing_span(window);
    // A closing over no time at all would be the hard limit itself.
    let is_closed_before = !window.is_zero();
    let last_from = if is_closed_before { closing_from } else { drain.deadline };
    let gone = rate.unwrap_or_default() * (last_from - now).as_secs_f64();
    let left = clients.saturating_sub(gone as u64);
    let [closed_1012, closed_1001] = if is_closed_before { [left, 0] } else { [0, left] };
    Forecast {
        phases: phases(drain, now, last_from),
        left_at_closing: left,
        closes_per_second: is_closed_before.then(|| rounded(left as f64 / span.as_secs_f64())),
        closed_1012,
        closed_1001,
    }
}

/// Those that last.
fn phases(drain: &DrainState, now: Millis, last_from: Millis) -> Vec<PhaseSpan> {
    let bounds = [now, drain.accepts_until.max(now), last_from, drain.deadline];
    let phases = [Phase::PreDelay, Phase::Waiting, Phase::Closing];
    let spans = phases.into_iter().zip(bounds.windows(2)).map(|(phase, bounds)| PhaseSpan {
        phase,
        in_seconds: (bounds[0] - now).as_secs_f64(),
        seconds: (bounds[1] - bounds[0]).as_secs_f64(),
    });
    spans.filter(|span| span.seconds > 0.0).collect()
}

/// Three digits after the point.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            DrainSettings, Machine, Steering,
            machine::tests::{SETTINGS, at},
        },
        *,
    };

    fn wish(timeout: u64, close_over: u64, closes_now: bool) -> Steering {
        let [timeout, close_over] = [timeout, close_over].map(Duration::from_secs);
        Steering { timeout: Some(timeout), close_over: Some(close_over), closes_now }
    }

    fn of(wish: &Steering, clients: u64, rate: Option<f64>) -> Forecast {
        let planned = Machine::new(SETTINGS).plan(at(10), wish).unwrap();
        forecast(&planned, at(10), clients, rate)
    }

    fn spans(forecast: &Forecast) -> Vec<(Phase, f64, f64)> {
        forecast.phases.iter().map(|span| (span.phase, span.in_seconds, span.seconds)).collect()
    }

    #[test]
    fn a_forecast_tells_times_and_numbers() {
        use Phase::{Closing, PreDelay, Waiting};
        let plain = of(&Steering::default(), 900, None);
        let expected = [(PreDelay, 0.0, 5.0), (Waiting, 5.0, 75.0), (Closing, 80.0, 20.0)];
        assert_eq!(spans(&plain), expected);
        assert_eq!((plain.left_at_closing, plain.closed_1012, plain.closed_1001), (900, 900, 0));
        assert_eq!(plain.closes_per_second, Some(50.0), "the last two seconds are for answers");
        let leaving = of(&Steering::default(), 900, Some(2.5));
        assert_eq!((leaving.left_at_closing, leaving.closed_1012), (700, 700));
        assert_eq!(of(&Steering::default(), 900, Some(20.0)).left_at_closing, 0);
        let hastened = of(&wish(60, 10, true), 90, None);
        assert_eq!(spans(&hastened), [(Closing, 0.0, 60.0)]);
        assert_eq!(hastened.closes_per_second, Some(10.0), "over the window, not to the limit");
        let all_window = of(&wish(25, 20, false), 9, None);
        assert_eq!(spans(&all_window), [(PreDelay, 0.0, 5.0), (Closing, 5.0, 20.0)]);
    }

    /// Without a window all that are left at the limit get 1001, and nobody gets 1012.
    #[test]
    fn without_a_window_everyone_left_gets_1001() {
        let without = of(&wish(100, 0, false), 30, Some(0.1));
        assert_eq!((without.closed_1012, without.closed_1001), (0, 20));
        assert_eq!(without.closes_per_second, None);
        assert_eq!(spans(&without).last(), Some(&(Phase::Waiting, 5.0, 95.0)));
        let at_once = of(&wish(0, 0, true), 30, None);
        assert_eq!((at_once.closed_1001, spans(&at_once).len()), (30, 0));
    }

    /// While it drains the forecast counts from now on.
    #[test]
    fn a_forecast_counts_from_now() {
        let settings = DrainSettings { pre_delay: Duration::ZERO, ..SETTINGS };
        let mut machine = Machine::new(settings);
        machine.steer(at(0), &Steering::default()).unwrap();
        machine.advance(at(90), 5);
        let now = forecast(&machine.drain().unwrap(), at(90), 45, Some(100.0));
        assert_eq!(spans(&now), [(Phase::Closing, 0.0, 10.0)]);
        assert_eq!((now.left_at_closing, now.closes_per_second), (45, Some(5.0)));
    }
}
