//! Secrets from files: read whole, within bounds, and looked at for who else may read them.
//!
//! What is typed stands in the list of processes, and a variable may be shown where it is set; a
//! file is for its reader alone, if its mode says so. Error messages never show what was read.

use std::{fs::File, io::Read};

use super::checker::Checker;

/// Largest file; a larger one holds no secret.
const BYTES_MAX: u64 = 1024 * 1024;

/// What the file at `path`, which `option` names, holds; warns if others can read it.
pub(super) fn read(checker: &mut Checker, option: &str, path: &str) -> Result<String, String> {
    let cannot = |error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(cannot)?;
    if let Some(mode) = readable_by_all(&file) {
        let user = "every user of this machine";
        checker.warn(format!("--{option} {path} can be read by {user} (mode {mode:o}): chmod o-r"));
    }
    let mut text = String::new();
    // Bounded, since the path may be anything, a device included.
    file.take(BYTES_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
    if text.len() as u64 > BYTES_MAX {
        return Err("larger than 1 MiB: no such file".to_owned());
    }
    // Some editors begin with a byte order mark.
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The mode of a file that anybody may read.
#[cfg(unix)]
fn readable_by_all(file: &File) -> Option<u32> {
    use std::os::unix::fs::MetadataExt;
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    let mode = metadata.mode() & 0o7777;
    (mode & 0o004 != 0).then_some(mode)
}

/// Elsewhere modes say nothing.
#[cfg(not(unix))]
fn readable_by_all(_file: &File) -> Option<u32> {
    None
}
