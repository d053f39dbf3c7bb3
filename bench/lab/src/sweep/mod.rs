//! The same servers at several points of one quantity: what does work cost as it grows.
//!
//! A point is a place on the axis and the run arguments for it. Rounds go over all points and
//! servers in turn, so that a change of the machine bends no curve. The result is one JSON file
//! with every run's figures, a table and charts; the charts can be drawn again from the file.

mod charts;
mod points;

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::output;

use self::points::Point;
use crate::{
    compare::{
        FieldArgs,
        figures::{self, CPU_PER_DELIVERY, CPU_PER_MESSAGE, DELIVERIES, Figure, P50, P99, Spread},
        progress_bar,
        server::ServerSpec,
        setup::Setup,
        trial::{self, Network},
    },
    record::Record,
};

/// Several servers at several points of one quantity.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    pub(crate) field: FieldArgs,
    /// Name of the quantity in file names and headings
    #[arg(long, value_name = "WORD")]
    pub(crate) name: String,
    /// A point as VALUE=RUN ARGUMENTS; VALUE is its place on the axis, and {point} in a server's
    /// command or its own run arguments becomes it (repeatable)
    #[arg(long = "point", value_name = "VALUE=ARGUMENTS", required = true)]
    pub(crate) points: Vec<String>,
    /// The axis's label
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) label: String,
    /// A line below the charts' titles
    #[arg(long, default_value = "", value_name = "TEXT")]
    pub(crate) remark: String,
    /// A linear axis instead of a logarithmic one
    #[arg(long)]
    pub(crate) linear: bool,
}

/// The figures of a run that are kept in the file, and that the table shows.
const KEPT: [Figure; 5] = [CPU_PER_DELIVERY, CPU_PER_MESSAGE, DELIVERIES, P50, P99];

/// A sweep's file.
#[derive(Debug, Serialize, Deserialize)]
struct Sweep {
    setup: Setup,
    /// The axis's label.
    label: String,
    remark: String,
    is_linear: bool,
    points: Vec<Measured>,
}

/// One point.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    point: Point,
    servers: Vec<Runs>,
}

/// One server at one point.
#[derive(Debug, Serialize, Deserialize)]
struct Runs {
    name: String,
    runs: Vec<Run>,
}

/// The figures of [`KEPT`] by label, in the report's units, and what was amiss.
#[derive(Debug, Serialize, Deserialize)]
struct Run {
    figures: Vec<(String, Option<f64>)>,
    saturated: String,
    problems: Vec<String>,
}

impl Run {
    fn of(report: &Value) -> Self {
        let figures = KEPT.iter().map(|figure| (figure.label.to_owned(), (figure.of)(report)));
        Self {
            figures: figures.collect(),
            saturated: figures::saturated(report).to_owned(),
            problems: figures::problems(report),
        }
    }

    fn figure(&self, figure: &Figure) -> Option<f64> {
        self.figures.iter().find(|(label, _)| label == figure.label)?.1
    }
}

impl Runs {
    fn spread(&self, figure: &Figure) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| run.figure(figure)))
    }
}

/// Runs all points; true if no run had problems.
pub(crate) fn sweep(args: &SweepArgs) -> Result<bool> {
    let field = &args.field;
    let specs = ServerSpec::all(field)?;
    let points = points::parse(&args.points)?;
    let network = Network::choose(field.fresh_network)?;
    let entry = format!("sweep-{}", args.name);
    let mut record = Record::extend(field.out.as_deref())?;
    let mut sweep = Sweep {
        setup: Setup::of(field, &args.name, &specs, network),
        label: if args.label.is_empty() { args.name.clone() } else { args.label.clone() },
        remark: args.remark.clone(),
        is_linear: args.linear,
        points: points.into_iter().map(|point| Measured::new(point, &specs)).collect(),
    };
    let runs = field.rounds * sweep.points.len() * specs.len();
    let bar = progress_bar(runs as u64);
    let mut is_clean = true;
    for round in 1..=field.rounds {
        for measured in &mut sweep.points {
            for (at, spec) in specs.iter().enumerate() {
                let Point { value, arguments } = &measured.point;
                let what = format!("round {round}, {} at {value}", spec.name);
                bar.set_message(what.clone());
                let report = trial::start(field, network, &spec.at_point(value), arguments)
                    .with_context(|| what.clone())?;
                let run = Run::of(&report);
                for problem in &run.problems {
                    bar.suspend(|| output::remark(&format!("{what}: {problem}")));
                }
                is_clean &= run.problems.is_empty();
                measured.servers[at].runs.push(run);
                bar.inc(1);
            }
        }
    }
    bar.finish_and_clear();
    record.add(&entry, &sweep)?;
    for (ending, svg) in charts::of(&sweep) {
        record.write(&format!("{entry}.{ending}"), &svg)?;
    }
    output::line(&sweep.text());
    Ok(is_clean)
}

/// (File, SVG) of the charts of all sweeps of a record.
pub(crate) fn pictures(record: &Record) -> Result<Vec<(String, String)>> {
    let mut pictures = Vec::new();
    for name in sweeps(record) {
        for (ending, svg) in charts::of(&record.get(name)?) {
            pictures.push((format!("{name}.{ending}"), svg));
        }
    }
    Ok(pictures)
}

/// The tables of all sweeps of a record.
pub(crate) fn texts(record: &Record) -> Result<Vec<String>> {
    sweeps(record).map(|name| Ok(record.get::<Sweep>(name)?.text())).collect()
}

fn sweeps(record: &Record) -> impl Iterator<Item = &str> {
    record.entries().filter(|name| name.starts_with("sweep-"))
}

impl Measured {
    fn new(point: Point, specs: &[ServerSpec]) -> Self {
        let servers = specs.iter().map(|spec| Runs { name: spec.name.clone(), runs: Vec::new() });
        Self { servers: servers.collect(), point }
    }
}

impl Sweep {
    /// The table, in Markdown: a line per point and server.
    fn text(&self) -> String {
        let rounds = self.setup.rounds;
        let mut text = format!("## {}: median (min–max) of {rounds}\n\n", self.label);
        let _ = write!(text, "{}\n\n| {} | server", self.setup.provenance(), self.label);
        for figure in &KEPT {
            let _ = write!(text, " | {}", figure.label);
        }
        let _ = writeln!(text, " | saturated |\n|---|---{}|---|", "|---".repeat(KEPT.len()));
        for Measured { point, servers } in &self.points {
            for server in servers {
                let _ = write!(text, "| {} | {}", point.value, server.name);
                for figure in &KEPT {
                    let words = server.spread(figure).map(|spread| spread.words(figure.decimals));
                    let _ = write!(text, " | {}", words.as_deref().unwrap_or("–"));
                }
                let mut words: Vec<&str> =
                    server.runs.iter().map(|run| run.saturated.as_str()).collect();
                words.sort_unstable();
                words.dedup();
                let faulty = server.runs.iter().filter(|run| !run.problems.is_empty()).count();
                let faulty = match faulty {
                    0 => String::new(),
                    runs => format!("; {runs} with problems"),
                };
                let _ = writeln!(text, " | {}{faulty} |", words.join(", "));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests;
