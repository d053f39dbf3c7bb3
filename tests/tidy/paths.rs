//! Paths of files that comments name exist, so that a file that moves takes its readers along.
//!
//! Only sources of the server are looked at, since the others also name files of other projects. A
//! path may begin at the root or at any folder below: `table/closing.rs` is enough.

use super::{check, files, root};

/// The endings of names by which a path is told from other words.
const ENDINGS: [&str; 5] = [".rs", ".lua", ".md", ".sh", ".toml"];

#[test]
fn paths_in_comments_exist() {
    let root = root();
    let existing: Vec<String> = files(&root)
        .iter()
        .map(|path| format!("/{}", path.strip_prefix(&root).unwrap().display()))
        .collect();
    check(|source, errors| {
        if !source.name.starts_with("src/") {
            return;
        }
        for (n, path) in named_paths(&source.text) {
            let end = format!("/{path}");
            if !existing.iter().any(|file| file.ends_with(&end)) {
                errors.push(format!("{}:{n}: there is no {path}", source.name));
            }
        }
    });
}

/// The paths in comments, each with its line; a name without a folder is none.
fn named_paths(text: &str) -> Vec<(usize, &str)> {
    let mut named = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let Some((_, comment)) = line.split_once("//") else { continue };
        let is_part = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
        let words = comment.split(|c| !is_part(c)).map(|word| word.trim_matches(['/', '.']));
        let is_path =
            |word: &&str| word.contains('/') && ENDINGS.iter().any(|end| word.ends_with(end));
        named.extend(words.filter(is_path).map(|path| (i + 1, path)));
    }
    named
}

#[test]
fn paths_are_found_in_comments_alone() {
    let text = "let a = \"no/path.rs\";\n//! In `table/closing.rs`, see docs/x.md.\n// either/or\n";
    assert_eq!(named_paths(text), [(2, "table/closing.rs"), (2, "docs/x.md")]);
}
