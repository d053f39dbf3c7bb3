//! A record: what one occasion of measuring found, as a directory that is committed.
//!
//! `raw.json.gz` has all raw data: one JSON object with an entry per run, sweep or text, an entry
//! a line, so that `zcat` and `jq` read it. `summary.md` and the charts are made of it and can be
//! made again. An entry is never overwritten.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The raw data's file.
pub(crate) const RAW: &str = "raw.json.gz";

/// A record as it stands; without a directory it is only remembered.
#[derive(Debug)]
pub(crate) struct Record {
    directory: Option<PathBuf>,
    /// Kept to the letter: a file that is written again says nothing else.
    entries: BTreeMap<String, Box<RawValue>>,
}

impl Record {
    /// For more entries: makes the directory, takes over what it holds.
    pub(crate) fn extend(directory: Option<&Path>) -> Result<Self> {
        let Some(directory) = directory else {
            return Ok(Self { directory: None, entries: BTreeMap::new() });
        };
        fs::create_dir_all(directory).with_context(|| format!("making {}", directory.display()))?;
        if directory.join(RAW).exists() {
            return Self::open(directory);
        }
        Ok(Self { directory: Some(directory.to_owned()), entries: BTreeMap::new() })
    }

    /// The record in a directory.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join(RAW);
        let read = || -> Result<_> {
            let mut text = String::new();
            GzDecoder::new(File::open(&path)?).read_to_string(&mut text)?;
            Ok(serde_json::from_str(&text)?)
        };
        let entries = read().with_context(|| format!("reading {}", path.display()))?;
        Ok(Self { directory: Some(directory.to_owned()), entries })
    }

    /// The record's name: that of its directory.
    pub(crate) fn name(&self) -> String {
        let name = self.directory.as_deref().and_then(Path::file_name);
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    }

    /// Names of the entries, in order.
    pub(crate) fn entries(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// An entry.
    pub(crate) fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Result<T> {
        let entry = self.entries.get(name).with_context(|| format!("no entry {name}"))?;
        serde_json::from_str(entry.get()).with_context(|| format!("reading the entry {name}"))
    }

    /// Adds an entry and writes the file: a measurement that is broken off keeps what it has.
    pub(crate) fn add(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        ensure!(
            name.bytes().all(is_plain) && !name.is_empty(),
            "{name:?} is no name: letters, digits, _ - and . only"
        );
        ensure!(!self.entries.contains_key(name), "{name} is there: records are never edited");
        let value = serde_json::value::to_raw_value(value)?;
        self.entries.insert(name.to_owned(), value);
        let Some(directory) = &self.directory else { return Ok(()) };
        let lines: Vec<String> =
            self.entries.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        let text = format!("{{\n{}\n}}\n", lines.join(",\n"));
        // Complete or not at all: the old file is there until the new one is.
        let (path, new) = (directory.join(RAW), directory.join("raw.json.gz.new"));
        let write = || -> Result<()> {
            let mut encoder = GzEncoder::new(File::create(&new)?, Compression::best());
            encoder.write_all(text.as_bytes())?;
            encoder.finish()?.sync_all()?;
            Ok(fs::rename(&new, &path)?)
        };
        write().with_context(|| format!("writing {}", path.display()))
    }

    /// Writes a file that is made of the raw data, over what an earlier one said.
    pub(crate) fn write(&self, file: &str, text: &str) -> Result<()> {
        let Some(directory) = &self.directory else { return Ok(()) };
        let path = directory.join(file);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_record_grows_and_no_entry_is_overwritten() {
        let directory = std::env::temp_dir().join(format!("lab-test-{}", std::process::id()));
        let mut record = Record::extend(Some(&directory)).unwrap();
        record.add("live.ours.1", &json!({"problems": ["a \"b\""], "x": 0.1})).unwrap();
        let mut record = Record::extend(Some(&directory)).unwrap();
        record.add("remark.txt", &"two\nlines").unwrap();
        assert!(record.add("live.ours.1", &1).is_err(), "records are never edited");
        assert!(record.add("a/b", &1).is_err() && record.add("", &1).is_err());
        let record = Record::open(&directory);
        fs::remove_dir_all(&directory).unwrap();
        let record = record.unwrap();
        assert_eq!(record.entries().collect::<Vec<_>>(), ["live.ours.1", "remark.txt"]);
        let report: Value = record.get("live.ours.1").unwrap();
        assert_eq!(report, json!({"problems": ["a \"b\""], "x": 0.1}));
        assert_eq!(record.get::<String>("remark.txt").unwrap(), "two\nlines");
        assert!(record.get::<Value>("other").is_err());
    }
}
