//! The tables of layers in the map and in the documentation are those that are checked.

use std::fs;

use super::{LAYERS, root};

/// Modules that exist for tests alone.
const UNLISTED: [&str; 2] = ["fuzzing", "seeds"];

#[test]
fn tables_of_layers_are_those_of_the_check() {
    let expected = {
        let listed = LAYERS.iter().filter(|(module, _)| !UNLISTED.contains(module));
        let mut layers: Vec<_> =
            listed.map(|&(module, layer)| (layer, module.to_owned())).collect();
        layers.sort();
        layers
    };
    for file in ["src/lib.rs", "docs/architecture.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(table(&text), expected, "{file}");
    }
}

/// The modules of a table whose rows begin `| layer | modules |`, sorted.
fn table(text: &str) -> Vec<(u8, String)> {
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.trim_start_matches("//! ").strip_prefix("| ")?.split(" | ");
        let layer: u8 = cells.next()?.parse().ok()?;
        let modules = cells.next()?.split(", ");
        let name = |module: &str| module.trim_matches(['[', ']', '`']).to_owned();
        Some(modules.map(|module| (layer, name(module))).collect::<Vec<_>>())
    });
    let mut layers: Vec<_> = rows.flatten().collect();
    layers.sort();
    layers
}
