//! The figures that README and docs/measured.md show are those of the committed records, to the
//! letter.
//!
//! `scripts/bench measure` writes both; this finds a figure edited by hand, and raw data that
//! changed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{
    collections::BTreeMap,
    fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use flate2::read::GzDecoder;
use serde_json::Value;
use wsload::report::Report;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The output of `lab` about a record.
fn said(words: &[&str], record: &Path) -> String {
    let lab = Command::new(env!("CARGO_BIN_EXE_lab"))
        .args(words)
        .arg(record)
        .current_dir(root())
        .output()
        .unwrap();
    assert!(lab.status.success(), "{}", String::from_utf8_lossy(&lab.stderr));
    String::from_utf8(lab.stdout).unwrap()
}

/// Directories of all records.
fn records() -> Vec<PathBuf> {
    let runs = fs::read_dir(root().join("bench/runs")).unwrap();
    let records: Vec<_> = runs.map(|entry| entry.unwrap().path()).collect();
    assert!(!records.is_empty());
    records
}

/// Checks the block of figures of one page, and that its charts are there.
fn says_what_the_raw_data_say(page: &str, table: &[&str], charts_min: usize) {
    let text = fs::read_to_string(root().join(page)).unwrap();
    let (_, block) = text.split_once("<!-- figures of ").unwrap();
    let (block, _) = block.split_once("<!-- end of figures -->").unwrap();
    let (directory, block) = block.split_once(": written by scripts/bench measure -->\n").unwrap();
    let table = said(table, Path::new(directory));
    assert!(block.starts_with(&table), "{page}: scripts/bench measure {directory}:\n{table}");
    let charts: Vec<&str> = block.lines().filter(|line| line.starts_with("![")).collect();
    assert!(charts.len() >= charts_min, "{page}: {charts:?}");
    let folder = root().join(page).parent().unwrap().to_owned();
    for line in charts {
        let (_, chart) = line.trim_end_matches(')').split_once("](").unwrap();
        assert!(folder.join(chart).exists(), "{page}: {line}");
    }
}

#[test]
fn the_page_of_all_figures_says_what_the_raw_data_say() {
    says_what_the_raw_data_say("docs/measured.md", &["table"], 4);
}

#[test]
fn the_readme_says_what_the_raw_data_say() {
    says_what_the_raw_data_say("README.md", &["table", "--brief"], 1);
}

#[test]
fn every_summary_says_what_the_raw_data_say() {
    for record in records() {
        let summary = fs::read_to_string(record.join("summary.md")).unwrap();
        assert_eq!(said(&["summary"], &record), summary, "{}", record.display());
    }
}

#[test]
fn every_chart_shows_what_the_raw_data_say() {
    let mut compared = 0;
    for record in records() {
        let mut charts: Vec<PathBuf> =
            fs::read_dir(&record).unwrap().map(|entry| entry.unwrap().path()).collect();
        charts.retain(|path| path.extension().is_some_and(|extension| extension == "svg"));
        if charts.is_empty() {
            continue;
        }
        let drawn = Path::new(env!("CARGO_TARGET_TMPDIR")).join(record.file_name().unwrap());
        fs::create_dir_all(&drawn).unwrap();
        fs::copy(record.join("raw.json.gz"), drawn.join("raw.json.gz")).unwrap();
        said(&["draw"], &drawn);
        for chart in charts {
            let again = fs::read_to_string(drawn.join(chart.file_name().unwrap())).unwrap();
            assert_eq!(again, fs::read_to_string(&chart).unwrap(), "{}", chart.display());
            compared += 1;
        }
    }
    assert!(compared > 0, "no record has a chart");
}

#[test]
fn every_report_can_be_shown() {
    let mut shown = 0;
    for record in records() {
        let raw = fs::File::open(record.join("raw.json.gz")).unwrap();
        let raw: BTreeMap<String, Value> =
            serde_json::from_reader(BufReader::new(GzDecoder::new(raw))).unwrap();
        // Those that end in the number of a round, whichever version wrote them.
        let is_report =
            |name: &str| name.rsplit('.').next().is_some_and(|word| word.parse::<u32>().is_ok());
        for (name, report) in raw.into_iter().filter(|(name, _)| is_report(name)) {
            let report: Report = serde_json::from_value(report).unwrap();
            assert!(report.is_of_a_run(), "{name}");
            shown += 1;
        }
    }
    assert!(shown >= 40, "{shown}");
}
