//! The pictures of a sweep: CPU per delivery, and latency, over the swept quantity.
//!
//! Medians with their ranges. A linear axis of values begins at zero, so that flat looks flat.

use wsload::chart::{Axis, Lines, Place, Point, Scale, Series, Unit};

use super::{Runs, Sweep};
use crate::compare::figures::{CPU_PER_DELIVERY, Figure, P50, P99};

/// (Ending of the file's name, SVG).
pub(super) fn of(sweep: &Sweep) -> Vec<(String, String)> {
    let cpu = Lines {
        title: format!("Server CPU per delivery, by {}", sweep.label),
        y: Axis::new("µs of CPU", Unit::Plain, Scale::Linear),
        series: series(sweep, &[("", CPU_PER_DELIVERY)]),
        ..frame(sweep)
    };
    let latency = Lines {
        title: format!("Latency, by {}", sweep.label),
        y: Axis::new("from the intended sending to the client", Unit::Micros, Scale::Log),
        series: series(sweep, &[(" p50", P50), (" p99", P99)]),
        ..frame(sweep)
    };
    [("cpu.svg", cpu), ("latency.svg", latency)]
        .into_iter()
        .filter(|(_, chart)| chart.series.iter().any(|series| !series.points.is_empty()))
        .map(|(ending, chart)| (ending.to_owned(), chart.svg(Place::File)))
        .collect()
}

/// The parts that both charts share.
fn frame(sweep: &Sweep) -> Lines {
    let unit = sweep.points.iter().find_map(|measured| measured.point.place());
    let unit = unit.map_or(Unit::Plain, |(_, unit)| unit);
    let scale = if sweep.is_linear { Scale::Linear } else { Scale::Log };
    Lines {
        note: sweep.remark.clone(),
        x: Axis::new(&sweep.label, unit, scale),
        ..Lines::default()
    }
}

/// A line per server and figure.
fn series(sweep: &Sweep, figures: &[(&str, Figure)]) -> Vec<Series> {
    let Some(first) = sweep.points.first() else { return Vec::new() };
    let mut all = Vec::new();
    for (at, server) in first.servers.iter().enumerate() {
        for (ending, figure) in figures {
            let points = sweep.points.iter().filter_map(|measured| {
                let (x, _) = measured.point.place()?;
                point(x, measured.servers.get(at)?, figure)
            });
            all.push(Series::line(&format!("{}{ending}", server.name), points));
        }
    }
    all
}

fn point(x: f64, runs: &Runs, figure: &Figure) -> Option<Point> {
    let spread = runs.spread(figure)?;
    let range = (spread.min < spread.max).then_some((spread.min, spread.max));
    Some(Point { x, y: spread.median, range })
}
