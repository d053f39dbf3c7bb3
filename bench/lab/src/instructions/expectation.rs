//! The expected counts, the measured ones, and whether the difference is a failure.
//!
//! A count above the tolerance fails, if compiler and C library are those of the expectation; a
//! count below it asks for a new expectation, so that the gain is kept.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Counts vary a little from build to build: symbols move, a hash is probed once more.
const TOLERANCE: f64 = 0.05;

/// Counts, and of what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Expectation {
    toolchain: String,
    /// Instructions each, by workload.
    instructions: BTreeMap<String, f64>,
}

/// How counts stand to what was expected.
#[derive(Debug)]
pub(super) struct Comparison {
    pub(super) text: String,
    pub(super) is_failure: bool,
}

impl Expectation {
    /// Nothing counted yet.
    pub(super) fn new(toolchain: &str) -> Self {
        Self { toolchain: toolchain.to_owned(), instructions: BTreeMap::new() }
    }

    /// Notes a count, to a tenth.
    pub(super) fn set(&mut self, name: &str, instructions: f64) {
        self.instructions.insert(name.to_owned(), (instructions * 10.0).round() / 10.0);
    }

    /// Reads the file.
    pub(super) fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("{}: --accept writes it", path.display()))?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    }

    /// The counts of `counted` that are dearer or cheaper than expected here.
    pub(super) fn compare(&self, counted: &Self) -> Comparison {
        let binds = self.toolchain == counted.toolchain;
        let (mut text, mut dearer, mut cheaper) = (String::new(), Vec::new(), Vec::new());
        for (name, count) in &counted.instructions {
            let expected = self.instructions.get(name).copied();
            let change = expected.map_or(0.0, |expected| count / expected - 1.0);
            if change > TOLERANCE {
                dearer.push(name.as_str());
            } else if change < -TOLERANCE || expected.is_none() {
                cheaper.push(name.as_str());
            }
            let expected = expected.map_or_else(|| "-".to_owned(), |count| count.to_string());
            let percent = change * 100.0;
            text += &format!("{name:<24} {count:>9.1}  expected {expected:>9}  {percent:+6.1} %\n");
        }
        let missing = self.instructions.keys().filter(|n| !counted.instructions.contains_key(*n));
        let missing: Vec<&str> = missing.map(String::as_str).collect();
        text += &match (binds, dearer.as_slice(), cheaper.as_slice()) {
            (_, [], []) => "as expected".to_owned(),
            (false, ..) => format!(
                "counted with {:?}, expected with {:?}: nothing follows from the difference; \
                 --accept takes the new counts",
                counted.toolchain, self.toolchain
            ),
            (true, [], cheaper) => {
                format!("cheaper or new: {}; --accept keeps it so", cheaper.join(", "))
            }
            (true, dearer, _) => format!(
                "DEARER by more than {} %: {}; if that is the price of something, --accept it",
                TOLERANCE * 100.0,
                dearer.join(", ")
            ),
        };
        if !missing.is_empty() {
            text += &format!("\nNOT COUNTED any more: {}", missing.join(", "));
        }
        Comparison { text, is_failure: (binds && !dearer.is_empty()) || !missing.is_empty() }
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instructions, {}", self.toolchain)?;
        for (name, count) in &self.instructions {
            write!(f, "\n{name:<24} {count:>9.1}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(toolchain: &str, append: f64) -> Expectation {
        let mut counts = Expectation::new(toolchain);
        counts.set("append", append);
        counts
    }

    /// Only a step that has become dearer under the same toolchain fails.
    #[test]
    fn only_dearer_steps_of_one_toolchain_fail() {
        let expected = counts("a", 100.0);
        let judge = |counted| expected.compare(&counted);
        assert!(!judge(counts("a", 104.9)).is_failure);
        assert!(judge(counts("a", 105.2)).is_failure);
        assert!(!judge(counts("b", 200.0)).is_failure, "another compiler");
        let cheaper = judge(counts("a", 90.0));
        assert!(!cheaper.is_failure && cheaper.text.contains("--accept"), "{}", cheaper.text);
        assert!(judge(counts("a", 100.0)).text.contains("as expected"));
    }

    /// A workload that is gone is a failure and a new one is not.
    #[test]
    fn a_missing_workload_is_a_failure() {
        let expected = counts("a", 100.0);
        assert!(expected.compare(&Expectation::new("a")).is_failure);
        let mut more = counts("a", 100.0);
        more.set("decode", 5.0);
        let comparison = expected.compare(&more);
        assert!(!comparison.is_failure && comparison.text.contains("decode"));
    }
}
