//! Checks the shape of the code itself, so that review does not have to.
//!
//! Sizes and heads of all sources, the layers of the modules, the purity of the protocol code,
//! that every limit limits something, and that nothing speaks of the machine it was written on.
//! Plain std over the text of the files; it must not need a build of anything else.
//!
//! Models: TigerBeetle's `src/tidy.zig` and rust-analyzer's `xtask/src/tidy.rs`.
#![allow(clippy::unwrap_used, reason = "an unreadable source is a failed test")]

mod circles;
mod layers;
mod paths;
mod sentences;

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILE_LINES_MAX: usize = 400;
const FUNCTION_LINES_MAX: usize = 70;
const FUNCTION_NAME_MAX: usize = 50;
const COLUMNS_MAX: usize = 100;

/// The folders of this repository that hold Rust.
const SOURCES: [&str; 4] = ["src", "bench", "fuzz", "tests"];

/// The architecture: a module may name only modules of a strictly lower layer.
const LAYERS: &[(&str, u8)] = &[
    ("bans", 1),
    ("channel", 1),
    ("clock", 0),
    ("handover", 2),
    ("health_client", 2),
    ("upgrade_client", 3),
    ("limits", 0),
    ("seeds", 0),
    ("spelling", 0),
    ("peer", 1),
    ("record", 1),
    ("socket_file", 1),
    ("telemetry", 1),
    ("drain", 1),
    ("position", 1),
    ("tls", 1),
    ("ws", 1),
    ("metrics", 2),
    ("admission", 2),
    ("hub", 2),
    ("service_manager", 2),
    ("broker", 3),
    ("token", 3),
    ("conn", 4),
    ("http", 5),
    ("shard", 6),
    ("config", 7),
    ("server", 8),
    ("fuzzing", 9),
];

/// Files that are values and functions only: time and bytes come in as arguments. So are those
/// whose heads say it.
const PURE: &[&str] =
    &["limits.rs", "limits/", "channel/", "position.rs", "ws/", "hub/", "conn/keepalive.rs"];
const PURE_BANS: &[&str] = &["tokio::", "hyper", "tracing", "Instant::now", "SystemTime"];

/// Written in two parts, so that this file may be checked too.
const WORDS_BANNED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("dbg", "!("),
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("#[ig", "nore"),
];

/// Places that mean something only where the code was written.
const PATHS_BANNED: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/tm", "p/wt"), concat!("/ro", "ot/"), concat!("/ho", "me/")];

/// Folders that are no part of the project.
const FOREIGN: &[&str] = &["target", ".git", "node_modules"];

/// A Rust file: its path below the root, and its text.
struct Source {
    name: String,
    text: String,
}

impl Source {
    /// The lines outside the unit tests at the bottom, without comments.
    fn production(&self) -> impl Iterator<Item = (usize, &str)> {
        let text = self.text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
        text.lines().enumerate().map(|(i, line)| (i + 1, line.split("//").next().unwrap()))
    }

    /// Whether the head calls the file pure.
    fn says_pure(&self) -> bool {
        let head = self.text.lines().map_while(|line| line.strip_prefix("//!"));
        let head = head.map(str::trim).collect::<Vec<_>>().join(" ");
        let claims = [": pure", ": a pure", "Pure:", "Pure.", "Pure functions"];
        claims.iter().any(|claim| head.contains(claim))
    }

    /// The path below `src`; `None` for other sources and for unit tests in files of their own.
    fn in_src(&self) -> Option<&str> {
        let name = self.name.strip_prefix("src/")?;
        (!name.ends_with("tests.rs") && !name.contains("/tests/")).then_some(name)
    }
}

#[test]
fn sources_are_small_and_say_what_they_are() {
    check(|source, errors| {
        let Source { name, text } = source;
        if !text.starts_with("//!") {
            errors.push(format!("{name}:1: a file opens with `//!`: what it is, why it exists"));
        }
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            errors.push(format!("{name}: {} lines, at most {FILE_LINES_MAX}", lines.len()));
        }
        for (i, line) in lines.iter().enumerate() {
            let n = i + 1;
            if line.chars().count() > COLUMNS_MAX {
                errors.push(format!("{name}:{n}: over {COLUMNS_MAX} columns"));
            }
            for word in WORDS_BANNED.iter().filter(|word| line.contains(**word)) {
                errors.push(format!("{name}:{n}: {word} does not go on main"));
            }
            let function = function_name(line).unwrap_or_default();
            if function.len() > FUNCTION_NAME_MAX {
                errors.push(format!(
                    "{name}:{n}: {function} has {} characters, at most {FUNCTION_NAME_MAX}: its \
                     doc comment has room for the whole sentence",
                    function.len()
                ));
            }
            let length = function_length(&lines[i..]).unwrap_or(0);
            if length > FUNCTION_LINES_MAX {
                errors.push(format!(
                    "{name}:{n}: a function of {length}, at most {FUNCTION_LINES_MAX}"
                ));
            }
        }
    });
}

#[test]
fn imports_point_down() {
    check(|source, errors| {
        let Some(name) = source.in_src() else { return };
        let module = name.split(['/', '.']).next().unwrap();
        if module == "main" || module == "lib" {
            return;
        }
        let Some(own) = layer(module) else {
            errors.push(format!("{name}: module `{module}` has no layer in tests/tidy/main.rs"));
            return;
        };
        for (n, named) in named_modules(source) {
            let allowed = named == module || layer(&named).is_some_and(|lower| lower < own);
            if !allowed {
                errors.push(format!(
                    "src/{name}:{n}: `{module}` (layer {own}) must not name `crate::{named}`"
                ));
            }
        }
    });
}

#[test]
fn pure_files_do_no_io_and_read_no_clock() {
    check(|source, errors| {
        let Some(name) = source.in_src() else { return };
        if !PURE.iter().any(|prefix| name.starts_with(prefix)) && !source.says_pure() {
            return;
        }
        for (n, code) in source.production() {
            for ban in PURE_BANS.iter().filter(|ban| code.contains(**ban)) {
                errors.push(format!("src/{name}:{n}: a pure file does not use {ban}"));
            }
        }
    });
}

/// Time is handed in: a server has one clock, and the log, which is older, another.
#[test]
fn only_a_process_and_a_server_make_a_clock() {
    let makers = ["main.rs", "server/mod.rs", "telemetry/seldom.rs", "clock.rs"];
    let tests = ["broker/redis/sim/", "broker/redis/timed/", "broker/redis/timed.rs"];
    check(|source, errors| {
        let Some(name) = source.in_src() else { return };
        if makers.contains(&name) || tests.iter().any(|prefix| name.starts_with(prefix)) {
            return;
        }
        for (n, _) in source.production().filter(|(_, code)| code.contains("Clock::start")) {
            errors.push(format!("src/{name}:{n}: the server's clock is to be handed in"));
        }
    });
}

/// Peers, publishers and Redis can cause an event a thousand times a second. Only events that the
/// process causes by itself may be logged each time.
#[test]
fn no_stranger_decides_how_long_the_log_gets() {
    // These have bounds of their own, for each reason.
    let own = ["main.rs", "server/", "telemetry/", "broker/refusals.rs", "broker/outage_log.rs"];
    check(|source, errors| {
        let Some(name) = source.in_src() else { return };
        if own.iter().any(|prefix| name.starts_with(prefix)) {
            return;
        }
        for (n, code) in source.production() {
            for word in ["info!(", "warn!(", "error!("].iter().filter(|word| code.contains(**word))
            {
                errors.push(format!("src/{name}:{n}: `seldom!` instead of `{word}…)`"));
            }
        }
    });
}

#[test]
fn every_limit_limits_something() {
    let sources = sources();
    let limits = sources.iter().filter(|source| source.name.starts_with("src/limits"));
    let names: Vec<&str> = limits
        .flat_map(|source| source.text.lines())
        .filter_map(|line| line.strip_prefix("pub const ")?.split(':').next())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    let is_used = |name: &str| {
        let elsewhere =
            |source: &&Source| source.in_src().is_some_and(|n| !n.starts_with("limits"));
        sources.iter().filter(elsewhere).any(|source| contains_word(&source.text, name))
    };
    let unused: Vec<_> = names.into_iter().filter(|name| !is_used(name)).collect();
    assert!(unused.is_empty(), "limits that nothing obeys: {unused:?}");
}

#[test]
fn nothing_speaks_of_the_machine_it_was_written_on() {
    let mut errors = Vec::new();
    for path in files(&root()) {
        // A file that is no text has no lines to check.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (i, line) in text.lines().enumerate() {
            for ban in PATHS_BANNED.iter().filter(|ban| line.contains(**ban)) {
                errors.push(format!("{}:{}: {ban}", path.display(), i + 1));
            }
        }
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

fn check(rule: impl Fn(&Source, &mut Vec<String>)) {
    let mut errors = Vec::new();
    let sources = sources();
    assert!(sources.len() > 20, "the sources are found");
    for source in &sources {
        rule(source, &mut errors);
    }
    assert!(errors.is_empty(), "\n{}\n", errors.join("\n"));
}

/// The name of the function that begins on `line`.
fn function_name(line: &str) -> Option<&str> {
    let code = line.trim_start();
    if code.starts_with("//") {
        return None;
    }
    // The brackets of a visibility are not those of the parameters.
    let visible = code.strip_prefix("pub(").and_then(|rest| rest.split_once(") "));
    let code = visible.map_or(code, |(_, rest)| rest);
    let mut words = code.split(['(', '<']).next()?.split(' ');
    // A name follows: `fn(&T)` is a type.
    words.find(|word| *word == "fn")?;
    words.next().filter(|name| !name.is_empty())
}

/// If `lines` starts with a function, its length; rustfmt's indentation finds the end.
fn function_length(lines: &[&str]) -> Option<usize> {
    function_name(lines[0])?;
    let first = lines[0];
    let indent = &first[..first.len() - first.trim_start().len()];
    let end = lines.iter().position(|line| line.strip_prefix(indent) == Some("}"))?;
    Some(end + 1)
}

/// The modules named after `crate::` (also inside its braces), each with its line.
fn named_modules(source: &Source) -> Vec<(usize, String)> {
    let mut named = Vec::new();
    let mut group_depth = 0_usize;
    for (n, code) in source.production() {
        let mut rest = code;
        if group_depth == 0 {
            while let Some((_, after)) = rest.split_once("crate::") {
                rest = after;
                if let Some(group) = after.strip_prefix('{') {
                    group_depth = 1;
                    rest = group;
                    break;
                }
                named.push((n, word_at(after)));
            }
        }
        if group_depth > 0 {
            modules_of_group(rest, &mut group_depth, |module| named.push((n, module)));
        }
    }
    named
}

/// Words that stand directly inside `use crate::{…}` on one of its lines.
fn modules_of_group(text: &str, depth: &mut usize, mut found: impl FnMut(String)) {
    let mut at_start = true;
    for (i, c) in text.char_indices() {
        match c {
            '{' => *depth += 1,
            '}' => *depth -= 1,
            ',' => at_start = *depth == 1,
            _ if at_start && *depth == 1 && c.is_alphabetic() => {
                found(word_at(&text[i..]));
                at_start = false;
            }
            _ => {}
        }
        if *depth == 0 {
            return;
        }
    }
}

fn word_at(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|&(_, layer)| layer)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let root = root();
    let is_rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    SOURCES
        .iter()
        .flat_map(|folder| files(&root.join(folder)))
        .filter(is_rust)
        .map(|path| Source {
            name: path.strip_prefix(&root).unwrap().display().to_string(),
            text: fs::read_to_string(&path).unwrap(),
        })
        .collect()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if FOREIGN.contains(&name.as_str()) {
            continue;
        }
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.is_file() {
            found.push(path);
        }
    }
    found.sort();
    found
}
