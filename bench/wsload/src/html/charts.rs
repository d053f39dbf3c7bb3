//! The pictures of the page, drawn from a report's rows.
//!
//! A picture whose rows are missing, as in reports of older versions, is left out.

use testkit::machine::{CpuUse, ThreadUse};

use super::Named;
use crate::{
    chart::{Axis, Bar, Bars, Lines, Look, Place, Point, Scale, Series, Unit},
    report::{Report, Timeline},
};

/// Threads shown, busiest first; how many are left out is said.
const THREADS_MAX: usize = 16;
/// From this share of a core on, a thread is worth a bar.
const THREAD_SHARE_MIN: f64 = 0.005;

/// Percentile curves of all; the histogram if there is one report.
pub(super) fn latency(reports: &[Named]) -> String {
    let curves: Vec<Series> = reports
        .iter()
        .filter(|named| !named.report.distribution.curve.is_empty())
        .map(|named| {
            Series::line(&named.name, named.report.distribution.curve.iter().copied())
                .without_dots()
        })
        .collect();
    let curve = Lines {
        title: "Latency by percentile".to_owned(),
        note: "from the intended time to the last byte at the client".to_owned(),
        x: Axis::new("percentile of the deliveries", Unit::Plain, Scale::Percentile),
        y: Axis::new("", Unit::Micros, Scale::Log),
        series: curves,
    };
    let histogram = match reports {
        [one] => histogram(&one.report),
        _ => String::new(),
    };
    grid(&[draw(&curve), histogram])
}

fn histogram(report: &Report) -> String {
    let columns = &report.distribution.histogram;
    let points = columns.iter().map(|(from_us, count)| (*from_us, *count as f64));
    let series = Series { look: Look::Columns, ..Series::line("deliveries", points) };
    draw(&Lines {
        title: "Latency distribution".to_owned(),
        note: "deliveries of the measured window, twenty columns to a tenfold".to_owned(),
        x: Axis::new("latency", Unit::Micros, Scale::Log),
        y: Axis::new("", Unit::Plain, Scale::Linear),
        series: if columns.is_empty() { vec![] } else { vec![series] },
    })
}

/// A row of the timeline against seconds.
fn row(timeline: &Timeline, name: &str, values: impl IntoIterator<Item = f64>) -> Series {
    let seconds = timeline.at_ms.iter().map(|ms| *ms as f64 / 1e3);
    Series::line(name, seconds.zip(values)).without_dots()
}

/// A row of latencies against the end of their slices.
fn latency_row(timeline: &Timeline, name: &str, values: &[Option<f64>]) -> Series {
    let seconds = (1..).map(|slice: u64| (slice * timeline.slice_ms) as f64 / 1e3);
    let values = values.iter().map(|value| value.unwrap_or(f64::NAN));
    // Nothing before the first message, so that all charts of a page need not align.
    let points = seconds.zip(values).skip_while(|(_, value)| value.is_nan());
    Series::line(name, points).without_dots()
}

fn window(timeline: &Timeline) -> Series {
    let edges = [timeline.window_from_ms, timeline.window_to_ms].map(|ms| (ms as f64 / 1e3, 0.0));
    Series { look: Look::Band, ..Series::line("measured", edges) }
}

/// The measured window goes behind the lines.
fn shaded(mut chart: Lines, report: &Report) -> String {
    let is_measured = report.timeline.window_to_ms > report.timeline.window_from_ms;
    if !chart.series.is_empty() && is_measured {
        chart.series.push(window(&report.timeline));
    }
    draw(&chart)
}

fn timed(title: &str, note: &str, unit: Unit, series: Vec<Series>, report: &Report) -> String {
    shaded(over_seconds(title, note, unit, Scale::Linear, series), report)
}

fn over_seconds(title: &str, note: &str, unit: Unit, scale: Scale, series: Vec<Series>) -> Lines {
    Lines {
        title: title.to_owned(),
        note: note.to_owned(),
        x: Axis::new("seconds since the first connect", Unit::Seconds, Scale::Linear),
        y: Axis::new("", unit, scale),
        series: series.into_iter().filter(|series| !series.points.is_empty()).collect(),
    }
}

/// Timelines of one report.
pub(super) fn over_time(report: &Report) -> String {
    let timeline = &report.timeline;
    let percent = |cores: &[f64]| cores.iter().map(|c| c * 100.0).collect::<Vec<f64>>();
    let area = |series: Series| vec![Series { look: Look::Area, ..series }];
    let deliveries = row(timeline, "deliveries/s", timeline.deliveries_per_second.clone());
    let cpu = vec![
        row(timeline, "server", percent(&timeline.server_cores)),
        row(timeline, "load", percent(&timeline.load_cores)),
    ];
    let latencies = vec![
        latency_row(timeline, "median", &timeline.latency_p50_us),
        latency_row(timeline, "p99", &timeline.latency_p99_us),
        latency_row(timeline, "longest", &timeline.latency_max_us),
    ];
    let latencies =
        over_seconds("Latency", "of what arrived then", Unit::Micros, Scale::Log, latencies);
    let rss = timeline.server_rss_bytes.iter().map(|bytes| *bytes as f64);
    let clients = timeline.connected.iter().map(|count| *count as f64);
    let storm = row(timeline, "reconnects/s", timeline.storm_per_second.clone());
    let pace = "a second; shaded: the measured window";
    let has_messages = report.deliveries.total > 0;
    grid(&[
        if has_messages {
            timed("Deliveries", pace, Unit::Plain, area(deliveries), report)
        } else {
            String::new()
        },
        shaded(latencies, report),
        timed("CPU", "100 % = one core", Unit::Percent, cpu, report),
        timed("Server memory", "resident", Unit::Bytes, area(row(timeline, "RSS", rss)), report),
        timed("Clients", "connected", Unit::Plain, area(row(timeline, "clients", clients)), report),
        timed("Storm", "reconnects a second", Unit::Plain, area(storm), report),
    ])
}

/// The most telling timelines, laid over each other.
pub(super) fn over_time_compared(reports: &[Named]) -> String {
    let each = |of: &dyn Fn(&str, &Timeline) -> Series| {
        reports.iter().map(|named| of(&named.name, &named.report.timeline)).collect::<Vec<_>>()
    };
    let deliveries = each(&|name, line| row(line, name, line.deliveries_per_second.clone()));
    let latencies = each(&|name, line| latency_row(line, name, &line.latency_p99_us));
    let cpu = each(&|name, line| row(line, name, line.server_cores.iter().map(|c| c * 100.0)));
    let rss = each(&|name, line| row(line, name, line.server_rss_bytes.iter().map(|b| *b as f64)));
    grid(&[
        draw(&over_seconds("Deliveries", "a second", Unit::Plain, Scale::Linear, deliveries)),
        draw(&over_seconds("Latency, p99", "", Unit::Micros, Scale::Log, latencies)),
        draw(&over_seconds("Server CPU", "100 % = one core", Unit::Percent, Scale::Linear, cpu)),
        draw(&over_seconds("Server memory", "resident", Unit::Bytes, Scale::Linear, rss)),
    ])
}

/// Memory per client, and how much of a core each thread used.
pub(super) fn resources(report: &Report) -> String {
    let Some(server) = &report.server else {
        return grid(&[bars(
            "CPU by thread",
            CPU_NOTE,
            Unit::Percent,
            vec![threads("load", &report.load.cpu, 1)],
        )]);
    };
    let bar = |name: &str, value: f64, series| Bar {
        name: name.to_owned(),
        value: value.max(0.0),
        range: None,
        series,
    };
    let memory = [
        bar("process, resident", server.rss_bytes_per_idle_client, 0),
        bar("process, anonymous", server.anonymous_bytes_per_idle_client, 0),
        bar("kernel, both ends", server.kernel_bytes_per_idle_client, 3),
    ];
    // A server that had as many clients before does not grow.
    let memory = memory.into_iter().filter(|bar| bar.value > 0.0).collect();
    let groups = vec![threads("server", &server.cpu, 0), threads("load", &report.load.cpu, 1)];
    let note = "growth from before the first client to all of them connected and idle";
    grid(&[
        bars("Memory per client", note, Unit::Bytes, vec![(String::new(), memory)]),
        bars("CPU by thread", CPU_NOTE, Unit::Percent, groups),
    ])
}

const CPU_NOTE: &str = "of one core, in the measured window; 90 % and more counts as saturated";

fn threads(heading: &str, cpu: &CpuUse, series: usize) -> (String, Vec<Bar>) {
    let seconds =
        if cpu.share_of_one_core > 0.0 { cpu.cpu_seconds / cpu.share_of_one_core } else { 1.0 };
    let share = |thread: &ThreadUse| thread.cpu_seconds / seconds;
    let is_shown = |thread: &&ThreadUse| share(thread) >= THREAD_SHARE_MIN;
    let shown: Vec<&ThreadUse> = cpu.threads.iter().filter(is_shown).take(THREADS_MAX).collect();
    // They are sorted, busiest first.
    let rest = &cpu.threads[shown.len()..];
    let heading = match rest {
        [] => heading.to_owned(),
        rest => {
            let percent = rest.iter().map(share).sum::<f64>() * 100.0;
            format!("{heading} ({} more threads: {percent:.1} % together)", rest.len())
        }
    };
    let bars = shown.into_iter().map(|thread| Bar {
        name: thread.name.clone(),
        value: share(thread) * 100.0,
        range: None,
        series,
    });
    (heading, bars.collect())
}

/// One bar per report for CPU per delivery and memory per client.
pub(super) fn bars_compared(reports: &[Named]) -> String {
    let group = |of: &dyn Fn(&Report) -> Option<f64>| {
        let bars = reports.iter().enumerate().filter_map(|(series, named)| {
            let value = of(&named.report).filter(|value| *value > 0.0)?;
            Some(Bar { name: named.name.clone(), value, range: None, series })
        });
        vec![(String::new(), bars.collect())]
    };
    let cpu = group(&|report| {
        let server = report.server.as_ref().filter(|_| report.deliveries.in_window > 0)?;
        Some(server.cpu_us_per_delivery)
    });
    let memory = group(&|report| Some(report.server.as_ref()?.rss_bytes_per_idle_client));
    let kernel = group(&|report| Some(report.server.as_ref()?.kernel_bytes_per_idle_client));
    grid(&[
        bars("Server CPU per delivery", "shorter is better", Unit::Micros, cpu),
        bars("Process memory per idle client", "shorter is better", Unit::Bytes, memory),
        bars("Kernel memory per idle client", "both ends", Unit::Bytes, kernel),
    ])
}

fn draw(lines: &Lines) -> String {
    let has_points =
        |series: &Series| series.points.iter().any(|point: &Point| point.y.is_finite());
    if lines.series.iter().any(has_points) { lines.svg(Place::Page) } else { String::new() }
}

fn bars(title: &str, note: &str, unit: Unit, groups: Vec<(String, Vec<Bar>)>) -> String {
    let groups: Vec<_> = groups.into_iter().filter(|(_, bars)| !bars.is_empty()).collect();
    if groups.is_empty() {
        return String::new();
    }
    Bars { title: title.to_owned(), note: note.to_owned(), unit, groups }.svg(Place::Page)
}

fn grid(charts: &[String]) -> String {
    let figures: String = charts
        .iter()
        .filter(|chart| !chart.is_empty())
        .map(|chart| format!("<figure>{chart}</figure>\n"))
        .collect();
    if figures.is_empty() { figures } else { format!("<div class=\"charts\">\n{figures}</div>\n") }
}
