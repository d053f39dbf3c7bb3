//! Secrets from files: read whole, within bounds, with a check of other users' access.
//!
//! A typed secret is in the list of processes, and a variable may be shown where it is set; a file
//! is for its reader alone, if its mode says so. Error messages never show the content.

use std::{
    fs::{self, File},
    io::Read,
};

use super::checker::Checker;

/// Largest file; a larger one holds no secret.
const BYTES_MAX: u64 = 1024 * 1024;

/// The content of the file at `path`, the value of `option`; warns if others can read or change it.
pub(super) fn read(checker: &mut Checker, option: &str, path: &str) -> Result<String, String> {
    let file = open(checker, path)?;
    if let Some((mode, others)) = open_to_others(&file) {
        checker.warn(format!("--{option} {path} {others} (mode {mode:o}): chmod go-rw"));
    }
    text(file)
}

/// The content of a file that everybody may read.
pub(super) fn read_public(checker: &Checker, path: &str) -> Result<String, String> {
    open(checker, path).and_then(text)
}

/// At the start a pipe may be read, which the shell's `<(…)` is. Later it is empty, and to open one
/// without a writer would wait for that, and keep everything else from being read again.
fn open(checker: &Checker, path: &str) -> Result<File, String> {
    if checker.reads_again() && !fs::metadata(path).map_err(cannot_be_read)?.is_file() {
        return Err("cannot be read again: this is no regular file".to_owned());
    }
    File::open(path).map_err(cannot_be_read)
}

fn cannot_be_read(error: std::io::Error) -> String {
    format!("cannot be read: {error}")
}

fn text(file: File) -> Result<String, String> {
    let mut bytes = Vec::new();
    // Bounded, since the path may be anything, a device included.
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot_be_read)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err("larger than 1 MiB: no such file".to_owned());
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err("begins with the byte order mark of UTF-16: save it as UTF-8".to_owned());
    }
    let text = String::from_utf8(bytes).map_err(|_| "is no UTF-8 text".to_owned())?;
    // Some editors begin a file with UTF-8's byte order mark; a file joined from several such files
    // has it inside as well.
    Ok(text.replace('\u{feff}', ""))
}

/// The mode of a file that others can access, and what they can do with it.
#[cfg(unix)]
fn open_to_others(file: &File) -> Option<(u32, String)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let mode = metadata.mode() & 0o7777;
    let who = |all, group| match (mode & all, mode & group) {
        (0, 0) => None,
        (0, _) => Some("its group"),
        _ => Some("every user of this machine"),
    };
    let can = |verb, all, group| who(all, group).map(|who| format!("can be {verb} by {who}"));
    let all = [can("read", 0o004, 0o040), can("changed", 0o002, 0o020)];
    let all: Vec<_> = all.into_iter().flatten().collect();
    (!all.is_empty()).then(|| (mode, all.join(" and ")))
}

/// On other systems modes mean nothing.
#[cfg(not(unix))]
fn open_to_others(_file: &File) -> Option<(u32, String)> {
    None
}
