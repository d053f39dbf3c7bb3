//! No circle of files: following the imports of a crate never leads back to where it began.
//!
//! An import counts for the file that defines the name, not for the one that hands it on. What is
//! named without an import (`part::run()`) is not seen.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, sources};

/// Crates that have none.
const CRATES: [&str; 4] =
    ["bench/lab/src/", "bench/wsload/src/", "tests/chaos/src/", "tests/kit/src/"];

/// Modules of the server that have none within them.
const MODULES: [&str; 1] = ["broker"];

/// A module's or an item's place in its crate.
type Path = Vec<String>;

#[test]
fn no_imports_lead_round_in_a_circle() {
    let sources = sources();
    for folder in CRATES {
        let of_crate = sources.iter().filter(|source| source.name.starts_with(folder));
        let imports: BTreeMap<Path, Vec<Path>> =
            of_crate.map(|source| (module(source, folder), imports(source, folder))).collect();
        assert!(imports.len() > 10, "{folder} has files");
        assert_eq!(circles(&arrows(&imports)), Vec::<String>::new(), "{folder}");
    }
    let of_server = sources.iter().filter(|source| source.in_src().is_some());
    let imports: BTreeMap<Path, Vec<Path>> =
        of_server.map(|source| (module(source, "src/"), imports(source, "src/"))).collect();
    for name in MODULES {
        let is_of = |path: &Path| path.first().is_some_and(|first| first == name);
        let mut arrows = arrows(&imports);
        arrows.retain(|file, _| is_of(file));
        arrows.values_mut().for_each(|targets| targets.retain(|target| is_of(target)));
        assert!(arrows.len() > 10, "{name} has files");
        assert_eq!(circles(&arrows), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_circle_is_found_also_behind_a_name_that_is_handed_on() {
    let imports = |lines: &[(&str, &str)]| -> BTreeMap<Path, Vec<Path>> {
        let path = |text: &str| text.split("::").map(str::to_owned).collect::<Path>();
        lines
            .iter()
            .map(|(file, names)| (path(file), names.split_whitespace().map(path).collect()))
            .collect()
    };
    // `b` hands on what `c` defines.
    let straight = [("a", "b::X"), ("b", "b::c::X"), ("b::c", ""), ("d", "a::Y b::X")];
    assert!(circles(&arrows(&imports(&straight))).is_empty());
    let round = [("a", "b::X"), ("b", "b::c::X"), ("b::c", "a::Y"), ("d", "a::Y b::X")];
    assert_eq!(circles(&arrows(&imports(&round))), ["a", "b::c"]);
}

/// From each file to those that define what it imports.
fn arrows(imports: &BTreeMap<Path, Vec<Path>>) -> BTreeMap<&Path, BTreeSet<&Path>> {
    let targets = |file: &Path, names: &[Path]| -> BTreeSet<&Path> {
        let defined = names.iter().filter_map(|name| defines(imports, name, 0));
        defined.filter(|target| *target != file).collect()
    };
    imports.iter().map(|(file, names)| (file, targets(file, names))).collect()
}

/// The file that defines a name: the one with the longest path, or whence that one has it.
fn defines<'a>(
    imports: &'a BTreeMap<Path, Vec<Path>>,
    name: &[String],
    handed_on: usize,
) -> Option<&'a Path> {
    let known = (0..=name.len()).rev().find_map(|end| imports.get_key_value(&name[..end]));
    let (file, its_imports) = known?;
    let item = name.get(file.len());
    let from = its_imports.iter().find(|path| item.is_some() && path.last() == item);
    match from {
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

/// What a file takes from its own crate.
fn imports(source: &Source, folder: &str) -> Vec<Path> {
    let own = module(source, folder);
    let code: String = source.production().map(|(_, line)| line.trim().to_owned() + " ").collect();
    let statements = code.split("use ").skip(1).filter_map(|rest| rest.split(';').next());
    let mut paths = Vec::new();
    for statement in statements {
        spread(statement.trim(), "", &mut paths);
    }
    paths.iter().filter_map(|path| absolute(path, &own)).collect()
}

/// `a::{b, c::{d}}` are `a::b` and `a::c::d`.
fn spread(tree: &str, before: &str, paths: &mut Vec<String>) {
    let Some((path, group)) = tree.split_once('{') else {
        let path = format!("{before}{}", tree.split(" as ").next().unwrap());
        return paths.push(path.trim().trim_end_matches("::self").to_owned());
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

/// A path from the crate's top; none if it leads elsewhere.
fn absolute(path: &str, own: &Path) -> Option<Path> {
    let mut parts = path.split("::").peekable();
    let mut absolute = match parts.next()? {
        "crate" => Vec::new(),
        "self" => own.clone(),
        "super" => own[..own.len().checked_sub(1)?].to_vec(),
        _ => return None,
    };
    while parts.next_if_eq(&"super").is_some() {
        absolute.pop()?;
    }
    absolute.extend(parts.map(str::to_owned));
    Some(absolute)
}
