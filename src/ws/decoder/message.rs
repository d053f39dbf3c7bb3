//! A data message that has not ended: the part that has arrived.
//!
//! Text is checked as it arrives, unless it is compressed. The buffer grows with the bytes that
//! have arrived, never with the length announced by a header, so a lying header costs nothing; and
//! it never grows past the longest that the message may still become.

use std::borrow::Cow;

use super::{
    event::{Event, FrameRules},
    mask::MaskKey,
    record::MessageRecord,
};
use crate::ws::{Kind, close::CloseReason, utf8::Validator};

/// A message being assembled.
///
/// # Invariants
/// `len` counts every payload byte received; `data` holds them all, or none if the rules say so.
#[derive(Debug)]
pub(super) struct Unfinished {
    kind: Kind,
    compressed: bool,
    len: usize,
    utf8: Validator,
    data: Vec<u8>,
}

impl Unfinished {
    pub(super) fn new(kind: Kind, compressed: bool) -> Self {
        Self { kind, compressed, len: 0, utf8: Validator::default(), data: Vec::new() }
    }

    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.compressed
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.data.capacity()
    }

    pub(super) fn record(&self) -> MessageRecord {
        MessageRecord {
            kind: self.kind,
            compressed: self.compressed,
            len: self.len,
            cut: self.utf8.cut().to_vec().into(),
            data: self.data.clone().into(),
        }
    }

    /// None: no message looks like that.
    pub(super) fn restore(record: &MessageRecord) -> Option<Self> {
        let MessageRecord { kind, compressed, len, ref cut, ref data } = *record;
        let mut utf8 = Validator::default();
        utf8.push(cut).ok()?;
        Some(Self { kind, compressed, len, utf8, data: data.to_vec() })
            .filter(|message| message.utf8.cut().len() == cut.len())
    }

    /// Takes the next piece of payload; the message will not get longer than `len_max`.
    pub(super) fn take_in(
        &mut self,
        piece: &mut [u8],
        key: MaskKey,
        len_max: usize,
        rules: &FrameRules,
    ) -> Result<(), CloseReason> {
        let utf8 = is_checked(self.kind, self.compressed).then_some(&mut self.utf8);
        reveal(piece, key, utf8, rules)?;
        self.len += piece.len();
        if rules.keep_payload {
            self.make_room(piece.len(), len_max);
            self.data.extend_from_slice(piece);
        } else {
            self.data = Vec::new();
        }
        Ok(())
    }

    /// The message ends here.
    pub(super) fn finish<'a>(self) -> Result<Event<'a>, CloseReason> {
        self.utf8.finish().map_err(|_| CloseReason::BadUtf8)?;
        let Self { kind, compressed, len, data, .. } = self;
        Ok(Event::Message { kind, compressed, len, data: Cow::Owned(data) })
    }

    /// Doubles the buffer when it is full, like a `Vec`, but not past `len_max`.
    fn make_room(&mut self, more: usize, len_max: usize) {
        let needed = self.data.len() + more;
        if needed > self.data.capacity() {
            let doubled = self.data.capacity().saturating_mul(2).min(len_max);
            self.data.reserve_exact(doubled.max(needed) - self.data.len());
        }
    }
}

/// A message that is all in the input: it is unmasked there, not copied.
pub(super) fn whole<'a>(
    kind: Kind,
    compressed: bool,
    payload: &'a mut [u8],
    key: MaskKey,
    rules: &FrameRules,
) -> Result<Event<'a>, CloseReason> {
    let mut utf8 = Validator::default();
    let checked = is_checked(kind, compressed).then_some(&mut utf8);
    reveal(payload, key, checked, rules)?;
    utf8.finish().map_err(|_| CloseReason::BadUtf8)?;
    let len = payload.len();
    let data: &[u8] = if rules.keep_payload { payload } else { &[] };
    Ok(Event::Message { kind, compressed, len, data: Cow::Borrowed(data) })
}

/// Whether the bytes that arrive are themselves text.
fn is_checked(kind: Kind, compressed: bool) -> bool {
    kind == Kind::Text && !compressed
}

/// Unmasks `piece` and checks it if it is text. Bytes that will not be looked at stay masked.
fn reveal(
    piece: &mut [u8],
    key: MaskKey,
    utf8: Option<&mut Validator>,
    rules: &FrameRules,
) -> Result<(), CloseReason> {
    if utf8.is_some() || rules.keep_payload {
        key.apply(piece);
    }
    if let Some(utf8) = utf8 {
        utf8.push(piece).map_err(|_| CloseReason::BadUtf8)?;
    }
    Ok(())
}
