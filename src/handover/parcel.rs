//! Parcels: opaque content with descriptors, from one process to the other.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde_bytes::ByteBuf;

use super::{BadSheet, PartKind, Sheet, messages::Enclosed};
use crate::{limits::HANDOVER_BATCH_MAX, record::BadRecord};

/// Opaque content, and descriptors of the type `D`: a sender lends its own, a receiver owns what
/// has come.
#[derive(Debug)]
pub struct Parcel<D> {
    /// Its subject.
    pub kind: PartKind,
    /// The shard whose it is, if it is one's.
    pub shard: Option<u32>,
    /// Its text.
    pub content: Content,
    /// At most [`HANDOVER_BATCH_MAX`].
    pub descriptors: Vec<D>,
}

/// Where the content is.
#[derive(Debug)]
pub enum Content {
    /// In the message. It is put into a sheet on its way if it is longer than
    /// [`HANDOVER_INLINE_BYTES_MAX`](crate::limits::HANDOVER_INLINE_BYTES_MAX).
    Bytes(Vec<u8>),
    /// In a sheet.
    Sheet(Sheet),
}

impl Content {
    /// All of it in memory.
    ///
    /// # Errors
    /// The system's, and [`BadSheet::Record`] for a sheet that is longer than a record may be.
    pub fn into_bytes(self) -> Result<Vec<u8>, BadSheet> {
        let sheet = match self {
            Self::Bytes(bytes) => return Ok(bytes),
            Self::Sheet(sheet) => sheet,
        };
        let length = usize::try_from(sheet.length()).unwrap_or(usize::MAX);
        if length > crate::limits::RECORD_BYTES_MAX {
            return Err(BadRecord::TooLong(length).into());
        }
        let mut bytes = Vec::with_capacity(length);
        std::io::Read::read_to_end(&mut sheet.reader(), &mut bytes)?;
        Ok(bytes)
    }
}

impl<D> Parcel<D> {
    /// One without descriptors, of no shard.
    #[must_use]
    pub fn new(kind: PartKind, content: Content) -> Self {
        Self { kind, shard: None, content, descriptors: Vec::new() }
    }
}

impl<D: AsFd> Parcel<D> {
    /// Whether one message can carry it.
    pub(super) fn is_sendable(&self) -> bool {
        self.descriptors.len() <= HANDOVER_BATCH_MAX
    }

    /// As it goes out with `number`: the message's part, and the descriptors that go with it.
    /// Content that is longer than a message goes into the sheet that `overflow` keeps until it was
    /// sent.
    pub(super) fn enclosed<'a>(
        &'a self,
        number: u32,
        overflow: &'a mut Option<Sheet>,
    ) -> std::io::Result<(Enclosed, Vec<BorrowedFd<'a>>)> {
        let (content, sheet) = match &self.content {
            Content::Sheet(sheet) => (ByteBuf::new(), Some(sheet)),
            Content::Bytes(bytes) if bytes.len() > crate::limits::HANDOVER_INLINE_BYTES_MAX => {
                let mut writer = super::SheetWriter::new("wsbcast-part")?;
                std::io::Write::write_all(&mut writer, bytes)?;
                (ByteBuf::new(), Some(&*overflow.insert(writer.seal()?)))
            }
            Content::Bytes(bytes) => (ByteBuf::from(bytes.as_slice()), None),
        };
        let said = Enclosed {
            kind: self.kind,
            shard: self.shard,
            content,
            is_sheet: sheet.is_some(),
            descriptors: u32::try_from(self.descriptors.len()).unwrap_or(u32::MAX),
            number,
        };
        let sheet = sheet.map(AsFd::as_fd);
        let lent = sheet.into_iter().chain(self.descriptors.iter().map(AsFd::as_fd)).collect();
        Ok((said, lent))
    }
}

impl Parcel<OwnedFd> {
    /// The one that has come; the number of descriptors was checked.
    pub(super) fn received(said: Enclosed, came: Vec<OwnedFd>) -> Result<Self, BadSheet> {
        let mut descriptors = came.into_iter();
        let content = match said.is_sheet {
            true => {
                let first = descriptors.next().ok_or(BadSheet::NotSealed)?;
                Content::Sheet(Sheet::received(first)?)
            }
            false => Content::Bytes(said.content.into_vec()),
        };
        let descriptors = descriptors.collect();
        Ok(Self { kind: said.kind, shard: said.shard, content, descriptors })
    }
}
