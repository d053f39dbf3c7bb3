//! The words of all pages: no page names an option, a metric or a route that is not there.

use std::collections::BTreeSet;

use super::{codes, is_word, options, page, pages, rows};
use crate::support::{
    http::get,
    metrics::Metrics,
    server::{Launch, Server},
};

/// Options of other programs that a page shows.
const OF_OTHERS: &[(&str, &[&str])] = &[
    ("README.md", &["--release"]),
    ("docs/decisions.md", &["--release"]),
    (
        "docs/deploying.md",
        &["--build", "--kill-whom", "--offline", "--release", "--stop-timeout", "--unix-socket"],
    ),
    ("docs/measured.md", &["--html"]),
    ("docs/publishing.md", &["--data-binary"]),
    ("docs/security.md", &["--subscribe"]),
    (
        "docs/sizing.md",
        &[
            "--allow-remote",
            "--clients",
            "--connect-timeout",
            "--json",
            "--mode",
            "--out",
            "--rate",
            "--seconds",
            "--token",
            "--ulimit",
            "--url",
        ],
    ),
    ("docs/upgrading.md", &["--init", "--kill-whom", "--network", "--stop-timeout"]),
    ("docs/tokens.md", &["--expires-in", "--sub", "--subscribe"]),
];

#[test]
fn no_page_names_an_option_that_is_not_there() {
    let help = Launch::new(&["--help"]).run().stdout;
    let known = options(&help);
    // The others are about scripts and tools, each with options of its own.
    let is_about_the_server = |name: &str| {
        name.starts_with("docs/") || ["README.md", "CHANGELOG.md", "SECURITY.md"].contains(&name)
    };
    let mut seen = 0;
    for (name, text) in pages().iter().filter(|(name, _)| is_about_the_server(name)) {
        let others = OF_OTHERS.iter().find(|(page, _)| page == name);
        let others: BTreeSet<&str> =
            others.map(|(_, options)| options.iter().copied().collect()).unwrap_or_default();
        let told = options(text);
        seen += told.len();
        let unknown: BTreeSet<&str> = told.difference(&known).copied().collect();
        assert_eq!(unknown, others, "{name}: options that wsbcast has not");
    }
    assert!(seen >= 100, "{seen}");
}

#[test]
fn no_page_names_a_metric_that_is_not_there() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let known = metrics.names();
    let mut seen = 0;
    for (name, text) in pages() {
        let words = text.split(|c| !is_word(c)).filter(|word| word.starts_with("wsbcast_"));
        for word in words {
            assert!(known.contains(&word), "{name}: there is no metric {word}");
            seen += 1;
        }
    }
    assert!(seen >= 50, "{seen}");
}

#[test]
fn the_table_of_routes_has_every_route_and_no_other() {
    let server = Server::start(&["--echo", "--admin-listen", "127.0.0.1:0"]);
    let operating = page("docs/operating.md");
    let mut told = BTreeSet::new();
    for row in rows(&operating) {
        for route in codes(&row[0]) {
            let Some((method @ ("GET" | "POST"), path)) = route.split_once(' ') else { continue };
            let addr = if row[1] == "admin" { server.admin() } else { server.addr() };
            // A stream that is begun has no end, and a drain that is begun neither.
            let target = if path == "/sse" { "/sse?channel=no%20name" } else { path };
            let status = get(addr, target).status;
            assert!(status != 404 && (status != 405 || method == "POST"), "{route}: {status}");
            told.insert(path.to_owned());
        }
    }
    // The words that the server itself knows.
    let hint = get(server.addr(), "/nothing").json()["hint"].to_string();
    let links = get(server.admin(), "/").json()["links"].to_string();
    let known: BTreeSet<String> = [hint, links]
        .iter()
        .flat_map(|text| text.split([' ', ',', ';', '"', '[', ']']))
        .filter(|word| word.starts_with('/'))
        .map(ToOwned::to_owned)
        .collect();
    assert!(known.len() >= 9, "{known:?}");
    assert!(known.is_subset(&told), "docs/operating.md lacks some of {known:?}");
}
