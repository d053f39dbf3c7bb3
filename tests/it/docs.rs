//! README.md against the program: what exists is documented.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::support::{
    metrics::Metrics,
    server::{Launch, Server},
    v1::V1,
};

fn readme() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    fs::read_to_string(path).expect("README.md stands beside Cargo.toml")
}

/// Words of `text` that begin with `--`.
fn options(text: &str) -> BTreeSet<&str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '-';
    text.split(|c: char| !is_part(c))
        .filter(|word| word.starts_with("--") && word[2..].starts_with(|c| c != '-'))
        .collect()
}

#[test]
fn the_readme_names_every_option() {
    let help = Launch::new(&["--help"]).run().stdout;
    let known = options(&help);
    assert!(known.len() >= 30, "{known:?}");
    let readme = readme();
    let documented = options(&readme);
    let missing: Vec<_> = known.difference(&documented).collect();
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
}

#[test]
fn the_readme_names_every_metric() {
    let server = Server::start(&[]);
    let metrics = Metrics::of(server.addr());
    let readme = readme();
    let is_ours = |name: &&str| name.starts_with("wsbcast_");
    let names: Vec<&str> = metrics.names().into_iter().filter(is_ours).collect();
    assert!(names.len() >= 20, "{names:?}");
    // A table of names need not repeat the prefix that they have in common.
    let is_documented = |name: &str| readme.contains(name.trim_start_matches("wsbcast_"));
    let missing: Vec<_> = names.iter().filter(|name| !is_documented(name)).collect();
    assert!(missing.is_empty(), "README.md lacks {missing:?}");
}

/// Whether `value` is what the README shows: `…` stands for any string.
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

#[test]
fn the_session_of_the_subprotocol_in_the_readme_is_what_happens() {
    let server = Server::start(&["--client-publish", "broadcast"]);
    let readme = readme();
    let session = readme.split("```wsbcast.v1\n").nth(1).expect("there is a session");
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

#[test]
fn examples_for_production_have_every_public_route_and_no_test_notice() {
    let readme = readme();
    let block = |fence: &str| {
        let begin = format!("```{fence}\n");
        let (_, rest) = readme.split_once(&begin).unwrap_or_else(|| panic!("no {fence}"));
        rest.split("```").next().unwrap().to_owned()
    };
    assert!(block("ini").contains("--notify-interval 0"));
    assert!(block("yaml").contains("\"--notify-interval\", \"0\""));
    let compose = Path::new(env!("CARGO_MANIFEST_DIR")).join("compose.yaml");
    assert!(fs::read_to_string(compose).unwrap().contains("WSBCAST_NOTIFY_INTERVAL: \"0\""));
    let nginx = block("nginx");
    for route in ["= /ws {", "= /sse {", "= /broadcast {", "^/client"] {
        assert!(nginx.contains(&format!("location {route}")) || nginx.contains(route), "{route}");
    }
}

#[test]
fn the_readme_names_every_close_code_and_exit_code_of_the_interface() {
    let readme = readme();
    for code in ["1001", "1002", "1007", "1009", "1011", "1012", "1013", "4408"] {
        assert!(readme.contains(code), "README.md lacks close code {code}");
    }
    for word in ["SIGTERM", "SIGINT", "SIGHUP", "exit code"] {
        assert!(readme.contains(word), "README.md lacks {word}");
    }
}
