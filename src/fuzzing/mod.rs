//! The properties that fuzzing checks, one function for each target in `fuzz/targets`.
//!
//! A property takes any bytes and panics if what they lead to is wrong: not only where the code
//! panics, but where an answer differs with the cuts between reads, a bound is passed, or what was
//! read cannot be written and read again. It stands beside the code that it checks, which is
//! private; this is the door. The module exists under `cfg(fuzzing)`, which cargo-fuzz sets, and
//! in tests, which run every input of `fuzz/corpus`: so no release has it, and the inputs that
//! once failed are tried on any toolchain.

use crate::{broker, conn, http, peer, token, ws};

/// A client's bytes after its handshake.
pub fn frames(input: &[u8]) {
    ws::fuzzing::frames(input);
}

/// The headers of an opening handshake.
pub fn handshake(input: &[u8]) {
    ws::fuzzing::handshake(input);
}

/// A client's compressed message.
pub fn inflate(input: &[u8]) {
    ws::fuzzing::inflate(input);
}

/// The commands of the subprotocol `wsbcast.v1`.
pub fn commands(input: &[u8]) {
    conn::fuzzing::commands(input);
}

/// The bytes of an HTTP connection.
pub fn requests(input: &[u8]) {
    http::fuzzing::requests(input);
}

/// The query of a request's target.
pub fn queries(input: &[u8]) {
    http::fuzzing::queries(input);
}

/// The headers by which proxies name the client.
pub fn forwarded(input: &[u8]) {
    peer::fuzzing::forwarded(input);
}

/// The header by which a proxy names the client of a whole connection.
pub fn proxy_headers(input: &[u8]) {
    peer::fuzzing::proxy_headers(input);
}

/// The bytes of a connection to Redis.
pub fn redis_frames(input: &[u8]) {
    broker::fuzzing::frames(input);
}

/// Redis' answers, with what it has stored, and what arrives on its channels.
pub fn redis_answers(input: &[u8]) {
    broker::fuzzing::answers(input);
}

/// Tokens, their claims and headers, and sets of keys.
pub fn tokens(input: &[u8]) {
    token::fuzzing::tokens(input);
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    type Property = fn(&[u8]);

    const TARGETS: [(&str, Property); 11] = [
        ("commands", commands),
        ("forwarded", forwarded),
        ("frames", frames),
        ("handshake", handshake),
        ("inflate", inflate),
        ("proxy_headers", proxy_headers),
        ("queries", queries),
        ("redis_answers", redis_answers),
        ("redis_frames", redis_frames),
        ("requests", requests),
        ("tokens", tokens),
    ];

    fn fuzz() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
    }

    fn names_in(folder: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(fuzz().join(folder)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.map(|name| name.trim_end_matches(".rs").to_owned()).collect()
    }

    /// Every target has a file, a binary and a corpus, and no other is there.
    #[test]
    fn every_target_has_its_file_and_its_corpus() {
        let expected: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_owned()).into();
        let manifest = fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
        let binaries = manifest.lines().filter_map(|line| line.strip_prefix("path = \"targets/"));
        let binaries = binaries.map(|name| name.trim_end_matches(".rs\"").to_owned());
        assert_eq!(binaries.collect::<BTreeSet<_>>(), expected);
        assert_eq!(names_in("targets"), expected);
        assert_eq!(names_in("corpus"), expected);
    }

    /// The inputs that fuzzing begins with, and those that once failed, hold on any toolchain.
    #[test]
    fn every_input_of_the_corpus_holds() {
        for (name, property) in TARGETS {
            let entries = fs::read_dir(fuzz().join("corpus").join(name)).unwrap();
            let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
            assert!(!paths.is_empty(), "{name} begins with nothing");
            paths.sort();
            for path in paths {
                eprintln!("{}", path.display());
                property(&fs::read(path).unwrap());
            }
        }
    }
}
