//! README.md and the pages in docs against the program: what exists is documented, and nothing
//! else. Names are compared as whole cells of tables and as whole words, never as parts of others.

mod examples;
mod words;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::support::{
    metrics::Metrics,
    server::{Launch, Server},
    v1::V1,
};

/// The page that GitHub shows first is a front door, not a manual.
const README_BYTES_MAX: usize = 12 * 1024;

/// A page, by its path below the project's folder.
fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names and texts of all pages that are for people.
fn pages() -> Vec<(String, String)> {
    let docs = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs")).unwrap();
    let mut names: Vec<String> =
        docs.map(|entry| format!("docs/{}", entry.unwrap().file_name().display())).collect();
    names.sort();
    let others = ["README", "CHANGELOG", "CONTRIBUTING", "SECURITY", "bench/README"];
    names.extend(others.map(|name| format!("{name}.md")));
    names.into_iter().map(|name| (name.clone(), page(&name))).collect()
}

/// The rows of all tables of `text`, each as its cells.
fn rows(text: &str) -> impl Iterator<Item = Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    // A bar inside of a cell is escaped.
    lines.map(|line| {
        let line = line.replace("\\|", "\u{1}");
        line.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    })
}

/// The words that stand in `text` as `code`.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The first cell of each row that names something that begins with `prefix`, and the whole row.
fn named(text: &str, prefix: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for row in rows(text) {
        for code in codes(&row[0]) {
            // The words after the name are its values, or its labels.
            let name = code.split([' ', '{']).next().unwrap();
            if name.starts_with(prefix) {
                found.push((name.to_owned(), row.join(" | ")));
            }
        }
    }
    found
}

fn names(rows: &[(String, String)]) -> BTreeSet<&str> {
    rows.iter().map(|(name, _)| name.as_str()).collect()
}

/// Words of `text` that begin with `--`.
fn options(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    text.split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("--") && word[2..].starts_with(|c| c != '-'))
        .collect()
}

#[test]
fn the_readme_is_a_front_door() {
    let bytes = page("README.md").len();
    assert!(bytes <= README_BYTES_MAX, "README.md has {bytes} bytes: docs has room");
}

#[test]
fn the_table_of_options_has_every_option_and_no_other() {
    let help = Launch::new(&["--help"]).run().stdout;
    let known = options(&help);
    assert!(known.len() >= 30, "{known:?}");
    let operating = page("docs/operating.md");
    assert_eq!(names(&named(&operating, "--")), known, "docs/operating.md against --help");
}

/// The table of options states the defaults of the program.
#[test]
fn the_table_of_options_has_the_defaults() {
    let help = Launch::new(&["--help"]).run().stdout;
    let operating = page("docs/operating.md");
    let told: Vec<(String, String)> = rows(&operating)
        .filter(|row| row.len() == 3)
        .filter_map(|row| {
            Some((codes(&row[0]).next()?.split(' ').next()?.to_owned(), row[1].clone()))
        })
        .collect();
    let mut compared = 0;
    for part in help.split("\n      --").skip(1) {
        let name = format!("--{}", part.split_whitespace().next().unwrap());
        let Some((_, default)) = part.split_once("[default: ") else { continue };
        let default = default.split(']').next().unwrap().split_whitespace().collect::<Vec<_>>();
        // Others are explained in words.
        if let [word] = default[..] {
            let (_, cell) = told.iter().find(|(option, _)| *option == name).expect(&name);
            let words: Vec<&str> = cell.split(|c: char| " `,".contains(c)).collect();
            assert!(words.contains(&word), "{name}: {word} by --help, {cell} by the page");
            compared += 1;
        }
    }
    assert!(compared >= 25, "{compared} defaults");
}

#[test]
fn the_table_of_metrics_has_every_metric_and_no_other() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let is_ours = |name: &&str| name.starts_with("wsbcast_");
    let known: BTreeSet<&str> = metrics.names().into_iter().filter(is_ours).collect();
    assert!(known.len() >= 20, "{known:?}");
    let table = page("docs/metrics.md");
    assert_eq!(names(&named(&table, "wsbcast_")), known, "docs/metrics.md against /metrics");
}

/// The row of each metric names its labels and all their values.
#[test]
fn the_row_of_a_metric_names_its_labels() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let table = page("docs/metrics.md");
    let rows = named(&table, "wsbcast_");
    let mut seen = 0;
    for (name, row) in &rows {
        let words: BTreeSet<&str> =
            codes(row).flat_map(|code| code.split(|c: char| !is_word(c))).collect();
        for (labels, _) in metrics.series(name) {
            for (label, value) in labels.split("\",").filter_map(|label| label.split_once("=\"")) {
                let value = value.trim_end_matches('"');
                // Labels that are in the table of close codes, and labels that differ from build to
                // build.
                let is_elsewhere = matches!(label, "shard" | "le" | "version" | "commit")
                    || name == "wsbcast_connections_closed_total";
                if !is_elsewhere {
                    assert!(words.contains(value), "the row of {name} lacks {label} {value}");
                    assert!(words.contains(label), "the row of {name} lacks the label {label}");
                    seen += 1;
                }
            }
        }
    }
    assert!(seen >= 50, "{seen} values");
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[test]
fn the_page_on_publishing_explains_every_failure() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let publishing = page("docs/publishing.md");
    let told: BTreeSet<&str> = codes(&publishing).collect();
    let mut seen = 0;
    for (labels, _) in metrics.series("wsbcast_publish_failures_total") {
        let (_, reason) = labels.split_once("reason=\"").unwrap();
        let reason = reason.split('"').next().unwrap();
        assert!(told.contains(reason), "docs/publishing.md lacks {reason}");
        seen += 1;
    }
    assert!(seen >= 10, "{seen} reasons");
}

#[test]
fn every_script_has_a_row_in_contributing() {
    let scripts = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts")).unwrap();
    let files = scripts.map(Result::unwrap).filter(|entry| entry.path().is_file());
    let known: BTreeSet<String> =
        files.map(|entry| format!("scripts/{}", entry.file_name().display())).collect();
    assert!(known.len() >= 10, "{known:?}");
    let contributing = page("CONTRIBUTING.md");
    let told = named(&contributing, "scripts/");
    assert_eq!(names(&told), known.iter().map(String::as_str).collect(), "CONTRIBUTING.md");
}

/// The table of ends has every close code with its reasons, and no other.
#[test]
fn the_table_of_ends_has_every_code() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let value = |labels: &str, label: &str| {
        let (_, rest) = labels.split_once(&format!("{label}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let known: BTreeSet<(String, String)> = metrics
        .series("wsbcast_connections_closed_total")
        .map(|(labels, _)| (value(labels, "code"), value(labels, "reason")))
        .collect();
    let listening = page("docs/listening.md");
    let (_, section) = listening.split_once("## How a connection ends").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut told = BTreeSet::new();
    for row in rows(section) {
        let code = match row[0].as_str() {
            "the client's own" => "none".to_owned(),
            other => other.to_owned(),
        };
        if code == "none" || code.parse::<u16>().is_ok() {
            told.extend(codes(&row[1]).map(|reason| (code.clone(), reason.to_owned())));
        }
    }
    assert_eq!(told, known, "docs/listening.md against the metrics");
}

/// Whether `value` is what the page shows: `…` stands for any string.
fn is_as_shown(value: &Value, shown: &Value) -> bool {
    match (value, shown) {
        (Value::String(_), Value::String(shown)) if shown == "…" => true,
        (Value::Object(value), Value::Object(shown)) => {
            value.len() == shown.len()
                && shown.iter().all(|(name, shown)| {
                    value.get(name).is_some_and(|value| is_as_shown(value, shown))
                })
        }
        _ => value == shown,
    }
}

/// The session that the page on the subprotocol shows is what a client sees.
#[test]
fn the_documented_session_is_what_happens() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let page = page("docs/protocol-v1.md");
    let session = page.split("```wsbcast.v1\n").nth(1).expect("there is a session");
    let lines: Vec<&str> = session.split("```").next().unwrap().lines().collect();
    let json = |line: &str| -> Value { serde_json::from_str(&line[2..]).expect(line) };
    let mut client = V1::open(server.addr(), "/ws?channel=news");
    assert!(is_as_shown(&client.hello, &json(lines[0])), "{}", client.hello);
    let mut said = 0;
    for answers in lines[1..].chunk_by(|_, next| next.starts_with('<')) {
        client.say(&json(answers[0]));
        said += 1;
        // A client's own message and the answer may come in any order.
        let mut shown: Vec<Value> = answers[1..].iter().map(|line| json(line)).collect();
        while !shown.is_empty() {
            let next = client.next();
            let place = shown.iter().position(|shown| is_as_shown(&next, shown));
            shown.remove(place.unwrap_or_else(|| panic!("{next} is not among {shown:?}")));
        }
    }
    assert!(said >= 6, "{said}");
    client.assert_nothing_else();
}

/// The examples for production pass every public route, and switch the test notice off.
#[test]
fn examples_have_every_public_route() {
    let deploying = page("docs/deploying.md");
    let block = |fence: &str| {
        let begin = format!("```{fence}\n");
        let (_, rest) = deploying.split_once(&begin).unwrap_or_else(|| panic!("no {fence}"));
        rest.split("```").next().unwrap().to_owned()
    };
    assert!(block("ini").contains("--notify-interval 0"));
    assert!(block("yaml").contains("\"--notify-interval\", \"0\""));
    assert!(page("compose.yaml").contains("WSBCAST_NOTIFY_INTERVAL: \"0\""));
    let nginx = block("nginx");
    for route in ["= /ws {", "= /sse {", "= /broadcast {", "~ ^/client\\.(js|d\\.ts)$ {"] {
        assert!(nginx.contains(&format!("location {route}")), "{route}");
    }
}

/// The page on sizing states the sum of the limits and of the options' defaults, and it fits into
/// the manifest's memory limit.
#[test]
fn the_sum_of_the_budgets_fits_the_manifest() {
    use wsbcast::limits as l;
    const MIB: usize = 1 << 20;
    let connection =
        l::HTTP_BUFFERS_FREE_BYTES + l::HTTP_BODY_FREE_BYTES + l::HTTP_ANSWER_FREE_BYTES;
    let http = |places: usize| {
        (l::HTTP_INPUT_BYTES_MAX + l::HTTP_WORK_BYTES_MAX + places * connection) / MIB
    };
    let queues = l::MAILBOX_BYTES_MAX + l::JOIN_BYTES_PENDING_MAX;
    let redis = l::PUBLISH_BYTES_IN_FLIGHT_MAX + l::REDIS_UNSENT_BYTES_MAX;
    let shard = http(l::HTTP_CONNECTIONS_PER_SHARD_MAX) + (queues + redis) / MIB;
    let help = Launch::new(&["--help"]).run().stdout;
    assert_eq!(help.matches("[default: 256MiB]").count(), 2, "backlogs and histories\n{help}");
    let (options, program) = (2 * 256, 64);
    let shared = (l::IDEMPOTENCY_KEYS_BYTES_MAX + l::BRIDGE_WAITING_BYTES_MAX) / MIB;
    let process = options + program + shared + http(l::ADMIN_CONNECTIONS_MAX);
    let two = process + 2 * shard;
    let sizing = page("docs/sizing.md").replace('\n', " ");
    let sum = format!(
        "{process} MiB for the process and {shard} MiB for each shard: {process} + 2 × {shard} ="
    );
    assert!(sizing.contains(&sum), "docs/sizing.md: {sum}");
    let deploying = page("docs/deploying.md");
    let thousands = format!("{},{:03} MiB", two / 1000, two % 1000);
    assert!(sizing.contains(&thousands) && deploying.contains(&thousands), "{thousands}");
    let (_, limit) = deploying.split_once("limits: {cpu: \"2\", memory: ").unwrap();
    let limit: usize = limit.split("Mi").next().unwrap().parse().unwrap();
    assert!(two <= limit && deploying.contains("\"--threads\", \"2\""), "{two} in {limit}");
}

/// The page on operating lists every exit code and every signal.
#[test]
fn operating_lists_every_exit_code_and_signal() {
    let operating = page("docs/operating.md");
    let told: BTreeSet<String> = rows(&operating).map(|row| row[0].clone()).collect();
    for code in ["0", "1", "2", "3", "4"] {
        assert!(told.contains(code), "docs/operating.md has no row of exit code {code}");
    }
    let words: BTreeSet<&str> = told.iter().flat_map(|cell| cell.split([',', ' '])).collect();
    for signal in ["SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2"] {
        assert!(words.contains(signal), "docs/operating.md has no row of {signal}");
    }
}

/// The anchor that a heading gets: its letters, digits, `-` and `_`, with `-` for each blank.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
}

fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut links = 0;
    for (name, text) in pages() {
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            links += 1;
            let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root.join(&name),
                _ => root.join(&name).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{name}: {link} leads nowhere");
            if !wanted.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                assert!(anchors(&text).contains(wanted), "{name}: {link} has no such heading");
            }
        }
    }
    assert!(links >= 40, "{links} links");
}

#[test]
fn the_readme_leads_to_every_page() {
    let readme = page("README.md");
    for (name, _) in pages().iter().filter(|(name, _)| name.starts_with("docs/")) {
        assert!(readme.contains(&format!("]({name})")), "README.md does not lead to {name}");
    }
}
