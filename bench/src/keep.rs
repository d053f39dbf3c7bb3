//! What a record says in words, and how results of other commands come into it.
//!
//! `summary.md` is made of the raw data alone, so that it can be checked: first the tables of all
//! comparisons, then each comparison and sweep by itself, then the texts that were added.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::value::RawValue;

use crate::{
    compare::{RecordArgs, comparisons, table},
    output,
    record::{RAW, Record},
    sweep,
};

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
    write_summary(&record)?;
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

/// Writes the summary anew.
pub(crate) fn write_summary(record: &Record) -> Result<()> {
    record.write("summary.md", &text(record)?)
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
