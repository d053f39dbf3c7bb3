//! The README's figures are those of the committed record that it names, to the letter.
//!
//! `scripts/measure` writes both; this finds a figure edited by hand, and raw data that changed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::{fs, path::Path, process::Command};

#[test]
fn the_readme_says_what_the_raw_data_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, block) = readme.split_once("<!-- figures of ").unwrap();
    let (block, _) = block.split_once("<!-- end of figures -->").unwrap();
    let (directory, block) = block.split_once(": written by scripts/measure -->\n").unwrap();
    let table = Command::new(env!("CARGO_BIN_EXE_wsload"))
        .args(["table", directory])
        .current_dir(root)
        .output()
        .unwrap();
    assert!(table.status.success(), "{}", String::from_utf8_lossy(&table.stderr));
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(block.starts_with(&table), "scripts/measure {directory} writes it anew:\n{table}");
    for line in block.lines().filter(|line| line.starts_with("![")) {
        let (_, chart) = line.trim_end_matches(')').split_once("](").unwrap();
        assert!(root.join(chart).exists(), "{line}");
    }
}
