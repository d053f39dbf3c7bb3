//! Recordings: records of earlier versions, which this one has to read.
//!
//! Each is a file in `tests/recordings`, written once, by the version that had the record first. To
//! add one, write its test and run it with `WSBCAST_RECORD=1`; a file that is there is never
//! written again.

use std::{fmt::Debug, fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};

use super::{from_bytes, to_bytes};

/// A record as another process reads it.
pub(crate) fn through_bytes<T: Serialize + DeserializeOwned>(record: &T) -> T {
    from_bytes(&to_bytes(record)).expect("it was just written")
}

/// Reads the recording `name` and compares it with `value`, which a later version may give fields
/// that the recording has not: with their defaults.
pub(crate) fn check<T>(name: &str, value: &T)
where
    T: Debug + PartialEq + Serialize + DeserializeOwned,
{
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings");
    let file = folder.join(name).with_extension("record");
    if !file.exists() && std::env::var_os("WSBCAST_RECORD").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, to_bytes(value)).unwrap();
    }
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let read: T = from_bytes(&bytes).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(read, *value, "{name}");
}
