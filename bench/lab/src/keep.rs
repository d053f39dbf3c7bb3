//! The texts of a record: tables, words and pictures; and the import of other commands' results.
//!
//! `summary.md` is made from the raw data alone, so that it can be checked: first the tables of all
//! comparisons, then each comparison and sweep by itself, then the texts that were added.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::value::RawValue;
use testkit::output;

use crate::{
    compare::{field, setup::comparisons, table},
    record::{RAW, Record},
    sweep,
};

/// A record.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RecordArgs {
    /// Its directory: what `compare --out`, `sweep --out` and `keep` wrote
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

/// A record, and how much of it is shown.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TableArgs {
    #[command(flatten)]
    record: RecordArgs,
    /// The servers only: medians of the figures that say most
    #[arg(long)]
    brief: bool,
}

/// Files for a record.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct KeepArgs {
    /// The record's directory, created if missing
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// `NAME.json` becomes the entry NAME; `NAME.txt` and `NAME.md` become part of the summary
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
}

/// Adds the files, none of which may be there already.
pub(crate) fn keep(args: &KeepArgs) -> Result<bool> {
    let mut record = Record::extend(Some(&args.directory))?;
    for path in &args.files {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let text = fs::read_to_string(path).with_context(|| format!("reading {name}"))?;
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                let value = on_one_line(&text).with_context(|| name.to_owned())?;
                record.add(name.trim_end_matches(".json"), &value)?;
            }
            Some("txt" | "md") => record.add(name, &text)?,
            _ => bail!("{name}: expected .json, .txt or .md"),
        }
    }
    summarise(Some(&args.directory))?;
    Ok(true)
}

/// The same JSON without line breaks and indentation, and every number to the letter.
fn on_one_line(text: &str) -> Result<Box<RawValue>> {
    let (mut is_string, mut is_escaped) = (false, false);
    let is_kept = |c: &char| {
        let is_space = !is_string && c.is_ascii_whitespace();
        is_string ^= *c == '"' && !is_escaped;
        is_escaped = is_string && *c == '\\' && !is_escaped;
        !is_space
    };
    Ok(RawValue::from_string(text.chars().filter(is_kept).collect())?)
}

/// Prints what `summary.md` says.
pub(crate) fn summary(args: &RecordArgs) -> Result<bool> {
    output::line(text(&Record::open(&args.directory)?)?.trim_end());
    Ok(true)
}

/// Writes the summary anew, if there is a record.
pub(crate) fn summarise(directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else { return Ok(()) };
    let record = Record::open(directory)?;
    record.write("summary.md", &text(&record)?)
}

/// Prints the tables of a record.
pub(crate) fn table(args: &TableArgs) -> Result<bool> {
    let directory = &args.record.directory;
    let comparisons = comparisons(&Record::open(directory)?)?;
    let place = directory.display();
    ensure!(!comparisons.is_empty(), "{place}: nothing of lab compare");
    let text = if args.brief { table::brief } else { table::text };
    output::line(&text(&comparisons));
    Ok(true)
}

/// Draws the charts of a record: the field, and every sweep again.
pub(crate) fn draw(args: &RecordArgs) -> Result<bool> {
    let record = Record::open(&args.directory)?;
    let mut charts = sweep::pictures(&record)?;
    for (ending, svg) in field::pictures(&comparisons(&record)?) {
        charts.push((format!("field.{ending}"), svg));
    }
    ensure!(!charts.is_empty(), "{}: nothing to draw", args.directory.display());
    for (name, svg) in &charts {
        record.write(name, svg)?;
    }
    output::remark(&format!("{} charts", charts.len()));
    Ok(true)
}

fn text(record: &Record) -> Result<String> {
    let comparisons = comparisons(record)?;
    let mut parts = vec![format!(
        "# {}\n\nMade of [`{RAW}`]({RAW}), which has every run: `zcat {RAW} | jq`.",
        record.name()
    )];
    if !comparisons.is_empty() {
        parts.push(table::text(&comparisons));
    }
    for (scenario, (setup, summary)) in &comparisons {
        parts.push(summary.text(scenario, &setup.provenance()));
    }
    parts.extend(sweep::texts(record)?);
    for name in record.entries() {
        if let Some(title) = name.strip_suffix(".txt") {
            let text: String = record.get(name)?;
            parts.push(format!("## {title}\n\n```text\n{}\n```", text.trim_end()));
        } else if let Some(title) = name.strip_suffix(".md") {
            let text: String = record.get(name)?;
            parts.push(format!("## {title}\n\n{}", text.trim_end()));
        }
    }
    let parts: Vec<&str> = parts.iter().map(|part| part.trim_end()).collect();
    Ok(parts.join("\n\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_kept_to_the_letter() {
        let text = "{\n  \"a \\\" b\": [1.10, 0.30000000000000004],\n  \"c\": \" \\\\\"\n}\n";
        let kept = on_one_line(text).unwrap();
        assert_eq!(kept.get(), "{\"a \\\" b\":[1.10,0.30000000000000004],\"c\":\" \\\\\"}");
        assert!(on_one_line("{").is_err());
    }
}
