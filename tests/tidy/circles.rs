//! No circle of files: following the imports of a crate never leads back to where it began.
//!
//! An import counts for the file that defines the name, not for the one that hands it on; and what
//! a file only hands on (`pub use`), without using it, counts for nobody. Names that are used
//! without an import (`part::run()`) are not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, is_word, sources};

/// Crates that have none.
const CRATES: [&str; 6] = [
    "src/",
    "bench/lab/src/",
    "bench/wsload/src/",
    "tests/chaos/src/",
    "tests/kit/src/",
    "tests/upgrades/src/",
];

/// A model of Redis, for tests alone.
const MODEL: &str = "src/broker/redis/sim";

/// A module's or an item's place in its crate.
type Path = Vec<String>;

/// The items that a file takes from its own crate, or hands on.
struct Import {
    path: Path,
    is_used: bool,
}

#[test]
fn no_imports_lead_round_in_a_circle() {
    let sources = sources();
    for folder in CRATES {
        // Files in src for tests alone may need the files that they test.
        let is_in = |source: &&Source| {
            let is_test = folder == "src/" && source.in_src().is_none();
            source.name.starts_with(folder) && !is_test && !source.name.starts_with(MODEL)
        };
        let of_crate = sources.iter().filter(is_in);
        let imports: BTreeMap<Path, Vec<Import>> =
            of_crate.map(|source| (module(source, folder), imports(source, folder))).collect();
        assert!(imports.len() > 10, "{folder} has files");
        assert_eq!(circles(&arrows(&imports)), Vec::<String>::new(), "{folder}");
    }
}

/// A circle of files is found also behind a name that is handed on.
#[test]
fn a_circle_is_found_behind_a_handed_on_name() {
    let imports = |lines: &[(&str, &str)]| -> BTreeMap<Path, Vec<Import>> {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Path>();
        let import = |text: &str| Import { path: path(text), is_used: true };
        lines
            .iter()
            .map(|(file, names)| (path(file), names.split_whitespace().map(import).collect()))
            .collect()
    };
    // `b` hands on what `c` defines.
    let straight = [("a", "b::X"), ("b", "b::c::X"), ("b::c", ""), ("d", "a::Y b::X")];
    assert!(circles(&arrows(&imports(&straight))).is_empty());
    let round = [("a", "b::X"), ("b", "b::c::X"), ("b::c", "a::Y"), ("d", "a::Y b::X")];
    assert_eq!(circles(&arrows(&imports(&round))), ["a", "b::c"]);
}

#[test]
fn a_name_that_is_only_handed_on_is_not_used() {
    let text = "pub use self::a::A;\nuse b::B;\npub use c::C;\n#[cfg(test)]\nmod tests;\n\
                static X: C;\nmod inner {\n    use super::D;\n}\n";
    let source = Source { name: "src/m/mod.rs".to_owned(), text: text.to_owned() };
    let found = imports(&source, "src/");
    let found: Vec<_> = found.iter().map(|one| (one.path.join("::"), one.is_used)).collect();
    let expected = [("m::a::A", false), ("m::b::B", true), ("m::c::C", true), ("m::D", true)];
    assert_eq!(found, expected.map(|(path, is_used)| (path.to_owned(), is_used)));
}

/// From each file to those that define what it uses.
fn arrows(imports: &BTreeMap<Path, Vec<Import>>) -> BTreeMap<&Path, BTreeSet<&Path>> {
    let targets = |file: &Path, names: &[Import]| -> BTreeSet<&Path> {
        let used = names.iter().filter(|import| import.is_used);
        let defined = used.filter_map(|import| defines(imports, &import.path, 0));
        defined.filter(|target| *target != file).collect()
    };
    imports.iter().map(|(file, names)| (file, targets(file, names))).collect()
}

/// The file that defines a name: the one with the longest path, or whence that one has it.
fn defines<'a>(
    imports: &'a BTreeMap<Path, Vec<Import>>,
    name: &[String],
    handed_on: usize,
) -> Option<&'a Path> {
    let known = (0..=name.len()).rev().find_map(|end| imports.get_key_value(&name[..end]));
    let (file, its_imports) = known?;
    let item = name.get(file.len());
    let from = its_imports.iter().find(|one| item.is_some() && one.path.last() == item);
    match from.map(|one| &one.path) {
        Some(from) if handed_on < 5 && from != name => defines(imports, from, handed_on + 1),
        _ => Some(file),
    }
}

/// The files that stand in circles, or between two.
fn circles(arrows: &BTreeMap<&Path, BTreeSet<&Path>>) -> Vec<String> {
    let mut left: BTreeSet<&Path> = arrows.keys().copied().collect();
    loop {
        let points = |file: &&Path| arrows[*file].iter().any(|to| left.contains(to));
        let is_met = |file: &&Path| left.iter().any(|from| arrows[*from].contains(*file));
        let still: BTreeSet<&Path> =
            left.iter().copied().filter(|file| points(file) && is_met(file)).collect();
        if still.len() == left.len() {
            return left.into_iter().map(|path| path.join("::")).collect();
        }
        left = still;
    }
}

/// `a/b.rs` and `a/b/mod.rs` are `a::b`; the crate's own file is nothing.
fn module(source: &Source, folder: &str) -> Path {
    let name = source.name.trim_start_matches(folder).trim_end_matches(".rs");
    let parts = name.split('/').filter(|part| !["lib", "main", "mod"].contains(part));
    parts.map(str::to_owned).collect()
}

fn imports(source: &Source, folder: &str) -> Vec<Import> {
    let own = module(source, folder);
    let code = code(source);
    let is_statement = |before: &str| {
        before.is_empty() || before.ends_with("pub") || before.ends_with([';', '}', '{', ']', ')'])
    };
    let (mut body, mut statements, mut rest) = (String::new(), Vec::new(), &*code);
    while let Some((before, after)) = rest.split_once("use ") {
        body.push_str(before);
        rest = after;
        if is_statement(before.trim_end())
            && let Some((statement, after)) = after.split_once(';')
        {
            let is_handed_on = before.trim_end().ends_with(['b', ')']);
            statements.push((statement, is_handed_on));
            rest = after;
        }
    }
    body.push_str(rest);
    let mut found = Vec::new();
    for (statement, is_handed_on) in statements {
        let mut paths = Vec::new();
        spread(statement.trim(), "", &mut paths);
        found.extend(paths.iter().filter_map(|path| {
            let (path, name) = path.split_once(" as ").unwrap_or((path, ""));
            let path = absolute(path.trim_end_matches("::self"), &own)?;
            let name = if name.is_empty() { path.last()? } else { name };
            let is_used = !is_handed_on || count(&body, name) > 0;
            Some(Import { path, is_used })
        }));
    }
    found
}

/// The lines without comments and unit tests. A module within the file is the file: what it calls
/// `super` is the file itself.
fn code(source: &Source) -> String {
    let mut code = String::new();
    let mut parts = source.text.split("\n#[cfg(test)]\nmod ");
    code.push_str(parts.next().unwrap_or_default());
    for part in parts {
        // Tests in a file of their own: what follows is code.
        match part.split_once('\n').filter(|(name, _)| name.ends_with(';')) {
            Some((_, rest)) => code.extend(["\n", rest]),
            None => break,
        }
    }
    let mut is_inner = false;
    let line = |line: &str| {
        let line = line.split("//").next().unwrap_or_default();
        is_inner = is_inner && line != "}" || line.starts_with("mod ") && line.ends_with('{');
        let line = if is_inner { line.replace("super::", "self::") } else { line.to_owned() };
        line.trim().to_owned() + " "
    };
    code.lines().map(line).collect()
}

/// How often a word stands in a text, but for the names of modules.
fn count(text: &str, word: &str) -> usize {
    let words = text.split(|c: char| !is_word(c));
    let mut before = "";
    words.filter(|one| std::mem::replace(&mut before, one) != "mod" && *one == word).count()
}

/// `a::{b, c::{d}}` are `a::b` and `a::c::d`.
fn spread(tree: &str, before: &str, paths: &mut Vec<String>) {
    let Some((path, group)) = tree.split_once('{') else {
        return paths.push(format!("{before}{}", tree.trim()));
    };
    let before = format!("{before}{path}");
    let (mut depth, mut begin) = (0, 0);
    let group = &group[..group.rfind('}').unwrap_or(group.len())];
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = group[begin..at].trim();
                if !branch.is_empty() {
                    spread(branch, &before, paths);
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
}

/// A path from the crate's top; what leads elsewhere seems to begin in the file itself.
fn absolute(path: &str, own: &Path) -> Option<Path> {
    let mut parts = path.split("::").peekable();
    let mut absolute = match parts.next()? {
        "crate" => Vec::new(),
        "self" => own.clone(),
        "super" => own[..own.len().checked_sub(1)?].to_vec(),
        child => [own.as_slice(), &[child.to_owned()]].concat(),
    };
    while parts.next_if_eq(&"super").is_some() {
        absolute.pop()?;
    }
    absolute.extend(parts.map(str::to_owned));
    Some(absolute)
}
