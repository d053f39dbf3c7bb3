//! Sheets that are read, sheets that are none, and nobody who can change one.

use std::{
    fs::File,
    io::{ErrorKind, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    offset: u64,
}

fn passed(sheet: &Sheet) -> OwnedFd {
    sheet.as_fd().try_clone_to_owned().unwrap()
}

#[test]
fn a_sheet_is_read_as_it_was_written() {
    let mut writer = SheetWriter::new("test").unwrap();
    let long = vec![7; 3 * 256 * 1024 + 1];
    for offset in 0..1000 {
        writer.record(&Entry { offset }).unwrap();
    }
    writer.record(&serde_bytes::Bytes::new(&long)).unwrap();
    let sheet = writer.seal().unwrap();
    let taken = Sheet::received(passed(&sheet)).unwrap();
    assert_eq!(taken.length(), sheet.length());
    // The other side reads it too, from its own place.
    for sheet in [&taken, &sheet] {
        let mut reader = sheet.reader();
        for offset in 0..1000 {
            assert_eq!(reader.record().unwrap(), Some(Entry { offset }));
        }
        let last: serde_bytes::ByteBuf = reader.record().unwrap().unwrap();
        assert_eq!(last, long);
        assert_eq!((reader.left(), reader.record::<Entry>().unwrap()), (0, None));
    }
}

#[test]
fn a_sheet_may_be_empty() {
    let sheet = SheetWriter::new("test").unwrap().seal().unwrap();
    let taken = Sheet::received(passed(&sheet)).unwrap();
    assert_eq!(taken.reader().record::<Entry>().unwrap(), None);
    assert_eq!(Content::Sheet(taken).into_bytes().unwrap(), b"");
}

#[test]
fn nobody_can_change_a_sheet() {
    let mut writer = SheetWriter::new("test").unwrap();
    writer.write_all(b"state").unwrap();
    let sheet = writer.seal().unwrap();
    let mut file = File::from(passed(&sheet));
    assert!(file.write_all(b"other").is_err());
    assert!(ftruncate(&file, 1).is_err() && ftruncate(&file, 100).is_err());
    assert!(fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).is_err());
    let mut read = String::new();
    sheet.reader().read_to_string(&mut read).unwrap();
    assert_eq!(read, "state");
}

#[test]
fn files_that_could_change_are_no_sheets() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let open = memfd_create("test", flags).unwrap();
    let half = memfd_create("test", flags).unwrap();
    fcntl_add_seals(&half, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    let file = tempfile::tempfile().unwrap();
    let (socket, far) = traced();
    for descriptor in [open, half, file.into(), socket] {
        let error = Sheet::received(descriptor).unwrap_err();
        assert!(matches!(error, BadSheet::NotSealed), "{error}");
    }
    assert!(is_closed(&far), "what was no sheet is closed");
}

#[test]
fn lengths_that_lie_reserve_nothing() {
    for (bytes, is_cut) in [
        (&[255, 255, 255, 255, 1][..], false),
        (&[0, 0, 0, 8, 1], true),
        (&[5, 0, 0, 0, 1], true),
        (&[5, 0], true),
    ] {
        let mut writer = SheetWriter::new("test").unwrap();
        writer.write_all(bytes).unwrap();
        let sheet = writer.seal().unwrap();
        let error = sheet.reader().record::<Entry>().unwrap_err();
        assert_eq!(matches!(error, BadSheet::CutOff), is_cut, "{error}");
    }
}

#[test]
fn a_sheet_that_is_too_long_is_refused() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("test", flags).unwrap();
    // A hole: it takes no memory.
    ftruncate(&file, crate::limits::SHEET_BYTES_MAX + 1).unwrap();
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals).unwrap();
    assert!(matches!(Sheet::received(file), Err(BadSheet::TooLong(_))));
    let mut writer = SheetWriter::new("test").unwrap();
    let large = vec![0; crate::limits::RECORD_BYTES_MAX];
    let error = writer.record(&serde_bytes::Bytes::new(&large)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "no reader would take it");
}
