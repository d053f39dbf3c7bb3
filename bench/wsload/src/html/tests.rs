//! The page is one file: nothing is loaded, nothing from a report is taken for markup.

use testkit::machine::{CpuUse, ThreadUse};

use super::*;
use crate::report::{Distribution, Server, Storm, Timeline};

fn report() -> Report {
    let mut report = Report {
        problems: vec!["<script>alert(1)</script>".to_owned()],
        timeline: Timeline {
            slice_ms: 100,
            window_from_ms: 100,
            window_to_ms: 200,
            at_ms: vec![100, 200, 300],
            deliveries_per_second: vec![0.0, 10.0, 20.0],
            connected: vec![1, 2, 3],
            server_cores: vec![0.1, 0.2, 0.3],
            load_cores: vec![0.1, 0.2, 0.3],
            latency_p99_us: vec![None, Some(5.0), Some(7.0)],
            ..Timeline::default()
        },
        distribution: Distribution {
            curve: vec![(0.0, 10.0), (0.5, 20.0), (0.9, 30.0)],
            histogram: vec![(10.0, 5), (20.0, 3), (30.0, 0)],
        },
        server: Some(Server::default()),
        storm: Some(Storm::default()),
        ..Report::default()
    };
    report.scenario.url = "http://example.invalid/\"><img src=x>".to_owned();
    report.latency.count = 8;
    report.deliveries.total = 8;
    report
}

fn named(name: &str) -> Named {
    Named { name: name.to_owned(), report: report() }
}

/// Nothing in the page makes a browser fetch anything: no attribute or rule names a resource.
fn assert_self_contained(page: &str) {
    // The raw data is text, and so is what escaping left of the report's words.
    let markup: String = page
        .split("<script type=\"application/json\"")
        .enumerate()
        .map(|(at, part)| if at == 0 { part } else { part.split_once("</script>").unwrap().1 })
        .collect();
    for load in
        [" src=", " href=", "url(", "@import", "<link", "<img", "<iframe", "xlink", "fetch("]
    {
        for (at, _) in markup.match_indices(load) {
            let around = &markup[at..(at + 40).min(markup.len())];
            // In a table cell, as text: its quotes and brackets are escaped.
            let before = &markup[..at];
            let is_text = before.rfind('>') > before.rfind('<');
            let is_script = before.rfind("<script>") > before.rfind("</script>");
            assert!(is_text && !is_script, "{load} in {around}");
        }
    }
}

#[test]
fn a_page_loads_nothing() {
    assert_self_contained(&page(&[named("one")]).unwrap());
    assert_self_contained(&page(&[named("one"), named("two")]).unwrap());
}

#[test]
fn words_of_a_report_are_never_markup() {
    for reports in [vec![named("<b>one")], vec![named("<b>one"), named("two")]] {
        let page = page(&reports).unwrap();
        assert!(
            !page.contains("<script>alert") && !page.contains("<img") && !page.contains("<b>one")
        );
        assert!(page.contains("&lt;script&gt;alert(1)"));
        assert_eq!(page.matches("</script>").count(), 2, "the raw data cannot end its element");
    }
}

#[test]
fn the_raw_data_is_the_report() {
    let page = page(&[named("one")]).unwrap();
    let raw = page.split_once("id=\"raw\">").unwrap().1.split_once("</script>").unwrap().0;
    let raw: serde_json::Value = serde_json::from_str(raw).unwrap();
    assert_eq!(raw["one"]["scenario"]["url"], report().scenario.url);
    assert_eq!(raw["one"]["timeline"]["at_ms"], serde_json::json!([100, 200, 300]));
}

/// A report of an older version has its figures and no empty pictures.
#[test]
fn an_older_report_has_its_figures() {
    let old: Report = serde_json::from_str("{\"deliveries\":{\"in_window\":5}}").unwrap();
    let page = page(&[Named { name: "old".to_owned(), report: old }]).unwrap();
    assert!(page.contains("Deliveries a second") && !page.contains("<svg"));
}

#[test]
fn a_late_load_is_not_all_well() {
    let mut report = report();
    report.problems.clear();
    let reports = |report: &Report| [Named { name: "a".to_owned(), report: report.clone() }];
    assert!(page(&reports(&report)).unwrap().contains("All is well"));
    report.published.lateness.max_us = 117_000.0;
    let page = page(&reports(&report)).unwrap();
    assert!(!page.contains("All is well") && !page.contains("verdict good"));
    assert!(page.contains("verdict warn") && page.contains("up to 117 ms"));
}

#[test]
fn every_thread_is_shown_or_counted() {
    let thread =
        |number: usize, cpu_seconds| ThreadUse { name: format!("s-{number}"), cpu_seconds };
    let page_of = |threads: Vec<ThreadUse>| {
        let cpu_seconds = threads.iter().map(|thread| thread.cpu_seconds).sum();
        let mut report = report();
        let cpu =
            CpuUse { cpu_seconds, share_of_one_core: cpu_seconds, threads, ..CpuUse::default() };
        report.server = Some(Server { cpu, ..Server::default() });
        page(&[Named { name: "a".to_owned(), report }]).unwrap()
    };
    let eight = page_of((0..8).map(|number| thread(number, 0.1)).collect());
    assert!(
        (0..8).all(|number| eight.contains(&format!("s-{number}<")))
            && !eight.contains("more threads")
    );
    let many = page_of((0..20).map(|number| thread(number, 0.1)).collect());
    assert!(many.contains("server (4 more threads: 40.0 % together)"));
}

#[test]
fn no_report_is_an_error() {
    assert!(page(&[]).is_err());
}
