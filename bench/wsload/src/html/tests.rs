//! The page is one file: nothing is loaded, nothing from a report is taken for markup.

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

/// What a browser would fetch: every attribute and rule that names a resource.
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

#[test]
fn a_report_of_an_older_version_has_its_figures_and_no_empty_pictures() {
    let old: Report = serde_json::from_str("{\"deliveries\":{\"in_window\":5}}").unwrap();
    let page = page(&[Named { name: "old".to_owned(), report: old }]).unwrap();
    assert!(page.contains("Deliveries a second") && !page.contains("<svg"));
}

#[test]
fn no_report_is_an_error() {
    assert!(page(&[]).is_err());
}
