//! Sheets: large state in a file that exists in memory only, and is sealed before it is sent.
//!
//! A sealed file can be neither changed nor cut by anyone, its maker included, so a reader can
//! trust its length and its content from one read to the next. Its memory is the kernel's, counted
//! once however many processes hold it, and freed with the last descriptor.

use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, memfd_create},
    io::Errno,
};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

use crate::{
    limits::{RECORD_BYTES_MAX, SHEET_BYTES_MAX, SHEET_CHUNK_BYTES},
    record::{self, BadRecord},
};

/// All that may happen to a file, but for reading it.
const SEALS: SealFlags =
    SealFlags::SEAL.union(SealFlags::SHRINK).union(SealFlags::GROW).union(SealFlags::WRITE);

/// A descriptor that is no sheet, or a sheet that is not what it should be.
#[derive(Debug, Error)]
pub enum BadSheet {
    /// It could still be changed, or is no file in memory at all.
    #[error("state in a file that is not sealed")]
    NotSealed,
    /// It is longer than allowed; the number is its length in bytes.
    #[error("state of {0} bytes in one file, at most {SHEET_BYTES_MAX} are allowed")]
    TooLong(u64),
    /// It ends amid a record.
    #[error("state that ends amid a record")]
    CutOff,
    /// One of its records.
    #[error(transparent)]
    Record(#[from] BadRecord),
    /// The system's word.
    #[error("state that cannot be read: {0}")]
    System(#[from] io::Error),
}

/// A sheet in the making.
#[derive(Debug)]
pub struct SheetWriter {
    file: BufWriter<File>,
    length: u64,
}

/// A sealed sheet.
#[derive(Debug)]
pub struct Sheet {
    file: File,
    length: u64,
}

/// The rest of a sheet, to be read.
#[derive(Debug)]
pub struct SheetReader<'a> {
    file: BufReader<Cursor<'a>>,
}

/// Where to read on: the descriptor's own position is shared with the other process.
#[derive(Debug)]
struct Cursor<'a> {
    sheet: &'a Sheet,
    at: u64,
}

impl SheetWriter {
    /// An empty one. `name` is seen in `/proc` only.
    ///
    /// # Errors
    /// The system's: no descriptors left.
    pub fn new(name: &str) -> io::Result<Self> {
        let wanted = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let made = memfd_create(name, wanted | MemfdFlags::NOEXEC_SEAL);
        let file = match made {
            // Linux before 6.3.
            Err(Errno::INVAL) => memfd_create(name, wanted),
            made => made,
        }?;
        let file = BufWriter::with_capacity(SHEET_CHUNK_BYTES, File::from(file));
        Ok(Self { file, length: 0 })
    }

    /// Appends a record, which [`SheetReader::record`] reads.
    ///
    /// # Errors
    /// `InvalidInput` for one longer than [`RECORD_BYTES_MAX`], or as for any write.
    pub fn record<T: Serialize + ?Sized>(&mut self, value: &T) -> io::Result<()> {
        let bytes = record::to_bytes(value);
        if bytes.len() > RECORD_BYTES_MAX {
            let error = BadRecord::TooLong(bytes.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error));
        }
        let length = u32::try_from(bytes.len()).expect("it was checked");
        self.write_all(&length.to_le_bytes())?;
        self.write_all(&bytes)
    }

    /// Ends and seals it.
    ///
    /// # Errors
    /// The system's: no memory.
    pub fn seal(self) -> io::Result<Sheet> {
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        fcntl_add_seals(&file, SEALS)?;
        Ok(Sheet { file, length: self.length })
    }
}

impl Write for SheetWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.length.saturating_add(bytes.len() as u64) > SHEET_BYTES_MAX {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let written = self.file.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Sheet {
    /// Takes a descriptor that another process calls a sheet.
    ///
    /// # Errors
    /// [`BadSheet::NotSealed`], [`BadSheet::TooLong`].
    pub fn received(descriptor: OwnedFd) -> Result<Self, BadSheet> {
        let seals = fcntl_get_seals(&descriptor).map_err(|_| BadSheet::NotSealed)?;
        if !seals.contains(SEALS) {
            return Err(BadSheet::NotSealed);
        }
        let file = File::from(descriptor);
        let length = file.metadata()?.len();
        if length > SHEET_BYTES_MAX {
            return Err(BadSheet::TooLong(length));
        }
        Ok(Self { file, length })
    }

    /// Its length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Reads it from its beginning, [`SHEET_CHUNK_BYTES`] at a time. Many may read the same one.
    #[must_use]
    pub fn reader(&self) -> SheetReader<'_> {
        let cursor = Cursor { sheet: self, at: 0 };
        SheetReader { file: BufReader::with_capacity(SHEET_CHUNK_BYTES, cursor) }
    }
}

impl AsFd for Sheet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl SheetReader<'_> {
    /// Bytes that are left.
    #[must_use]
    pub fn left(&self) -> u64 {
        let cursor = self.file.get_ref();
        cursor.sheet.length - cursor.at + self.file.buffer().len() as u64
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// [`BadSheet`]: nothing more can be read after it.
    pub fn record<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BadSheet> {
        if self.left() == 0 {
            return Ok(None);
        }
        let mut length = [0; 4];
        self.read_exact(&mut length).map_err(cut_off)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > RECORD_BYTES_MAX {
            return Err(BadRecord::TooLong(length).into());
        }
        if length as u64 > self.left() {
            return Err(BadSheet::CutOff);
        }
        let mut bytes = vec![0; length];
        self.read_exact(&mut bytes).map_err(cut_off)?;
        Ok(Some(record::from_bytes(&bytes)?))
    }
}

fn cut_off(error: io::Error) -> BadSheet {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => BadSheet::CutOff,
        _ => BadSheet::System(error),
    }
}

impl Read for SheetReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Read for Cursor<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.sheet.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
