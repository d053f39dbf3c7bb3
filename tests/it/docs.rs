//! README.md against the program: what exists is documented.

use std::{collections::BTreeSet, fs, path::Path};

use crate::support::{
    metrics::Metrics,
    server::{Launch, Server},
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
