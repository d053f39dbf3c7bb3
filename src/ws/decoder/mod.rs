//! The decoder of a client's frames, fed with the pieces that the kernel returns.
//!
//! The read buffer belongs to the caller, one for many clients; a decoder owns memory only while a
//! message or a frame of its client is unfinished, so an idle client costs one pointer. A payload
//! that is all in the input is unmasked there and lent out; only cut payloads are copied. Every
//! rule of RFC 6455 about client frames is checked at the first byte that breaks it. Answers, and
//! deadlines for unfinished messages, are left to the caller.

mod event;
mod header;
mod mask;
mod message;
mod record;
#[cfg(test)]
mod tests;

use std::{borrow::Cow, mem};

use bytes::Bytes;

pub use self::{
    event::{CloseFrame, Event, FrameRules},
    record::DecoderRecord,
};
use self::{
    header::{Carries, HEADER_BYTES_MAX, Header},
    mask::MaskKey,
    message::Unfinished,
    record::FrameRecord,
};
use super::{
    Kind,
    close::CloseReason,
    frame::{CONTROL_PAYLOAD_BYTES_MAX, ControlKind},
};

/// The number of input bytes used, and the event in them; or the reason to end the connection.
pub type Step<'a> = Result<(usize, Option<Event<'a>>), CloseReason>;

/// The reader of one client's frames.
///
/// # Invariants
/// `partial` exists exactly while a message or a frame is unfinished.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

/// The unfinished parts: at most one header or one frame, and around it at most one message.
#[derive(Debug, Default)]
struct Partial {
    /// The beginning of a header.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    /// A frame whose payload has not all arrived.
    frame: Option<Frame>,
    /// The part of a control frame's payload that has arrived.
    control: Vec<u8>,
    /// A data message that has arrived in part.
    message: Option<Unfinished>,
}

/// A frame whose header is known.
#[derive(Clone, Copy, Debug)]
struct Frame {
    fin: bool,
    /// Whether it belongs to a compressed message.
    compressed: bool,
    carries: Carries,
    /// Payload bytes to come.
    remaining: usize,
    /// The key, rotated to the next of these bytes.
    key: MaskKey,
}

impl Decoder {
    /// Reads `input` up to the next event. The caller continues after the bytes used until there is
    /// no event: then all of `input` is used up and may be overwritten.
    ///
    /// # Errors
    /// `Protocol`, `BadUtf8` or `TooBig`: the connection must end with that reason. The decoder has
    /// freed everything and must not be used any more.
    pub fn next<'a>(&mut self, input: &'a mut [u8], rules: &FrameRules) -> Step<'a> {
        let step = self.read_to_event(input, rules);
        let nothing_unfinished = self.partial.as_ref().is_some_and(|partial| partial.is_empty());
        if step.is_err() || nothing_unfinished {
            self.partial = None;
        }
        step
    }

    /// Whether no message and no frame is unfinished. A deadline for unfinished ones starts when
    /// this turns false, and anew with every `Message` since: a busy client's reads may always end
    /// inside its next message.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Payload bytes that are still to come of the frame underway; 0 if none is.
    #[must_use]
    pub fn frame_rest_bytes(&self) -> usize {
        let frame = self.partial.as_ref().and_then(|partial| partial.frame.as_ref());
        frame.map_or(0, |frame| frame.remaining)
    }

    /// The memory held for unfinished parts, to be charged to a budget; 0 when idle. At most twice
    /// the bytes that arrived or the longest message allowed, plus a small constant.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.partial.as_ref().map_or(0, |partial| {
            let message = partial.message.as_ref().map_or(0, Unfinished::held_bytes);
            size_of::<Partial>() + partial.control.capacity() + message
        })
    }

    /// The unfinished parts; None: the decoder is idle.
    #[must_use]
    pub fn record(&self) -> Option<DecoderRecord> {
        let partial = self.partial.as_ref()?;
        Some(DecoderRecord {
            header: Bytes::copy_from_slice(&partial.header[..partial.header_len]),
            frame: partial.frame.map(|frame| FrameRecord {
                fin: frame.fin,
                compressed: frame.compressed,
                carries: frame.carries,
                remaining: frame.remaining,
                key: frame.key.0,
            }),
            control: partial.control.clone().into(),
            message: partial.message.as_ref().map(Unfinished::record),
        })
    }

    /// A decoder that goes on; None: no decoder can be in that state.
    #[must_use]
    pub fn restore(record: &DecoderRecord) -> Option<Self> {
        let DecoderRecord { header: begun, frame, control, message } = record;
        let mut header = [0; HEADER_BYTES_MAX];
        header.get_mut(..begun.len()).filter(|_| begun.len() < HEADER_BYTES_MAX)?;
        header[..begun.len()].copy_from_slice(begun);
        let frame = frame.map(|frame| Frame {
            fin: frame.fin,
            compressed: frame.compressed,
            carries: frame.carries,
            remaining: frame.remaining,
            key: MaskKey(frame.key),
        });
        let message = match message {
            Some(message) => Some(Unfinished::restore(message)?),
            None => None,
        };
        let header_len = begun.len();
        let partial = Partial { header, header_len, frame, control: control.to_vec(), message };
        Some(Self { partial: Some(Box::new(partial)).filter(|partial| !partial.is_empty()) })
    }

    fn read_to_event<'a>(&mut self, input: &'a mut [u8], rules: &FrameRules) -> Step<'a> {
        let available = input.len();
        let mut rest = input;
        while !rest.is_empty() {
            let Some(frame) = self.current_frame(&mut rest, rules)? else { break };
            let here = frame.remaining.min(rest.len());
            let (piece, after) = mem::take(&mut rest).split_at_mut(here);
            rest = after;
            let event = match frame.carries {
                Carries::Data(kind) => self.data_piece(kind, frame, piece, rules)?,
                Carries::Control(control) => self.control_piece(control, frame, piece)?,
            };
            if event.is_some() {
                return Ok((available - rest.len(), event));
            }
        }
        Ok((available, None))
    }

    /// The frame whose payload comes next: the one underway, or the one whose header is taken off
    /// `rest`. `None`: the header is incomplete, and `rest` is used up.
    fn current_frame(
        &mut self,
        rest: &mut &mut [u8],
        rules: &FrameRules,
    ) -> Result<Option<Frame>, CloseReason> {
        if let Some(frame) = self.partial.as_mut().and_then(|partial| partial.frame.take()) {
            return Ok(Some(frame));
        }
        let Some(header) = self.read_header(rest, rules.compression)? else { return Ok(None) };
        let message = self.message();
        let compressed = message.map_or(header.compressed, Unfinished::is_compressed);
        let payload_len_max = match header.carries {
            Carries::Data(_) => {
                let before = message.map_or(0, Unfinished::len);
                rules.bytes_max(compressed).saturating_sub(before)
            }
            Carries::Control(_) => CONTROL_PAYLOAD_BYTES_MAX,
        };
        let remaining = usize::try_from(header.payload_len)
            .ok()
            .filter(|&payload_len| payload_len <= payload_len_max)
            .ok_or(CloseReason::TooBig)?;
        let Header { fin, carries, key, .. } = header;
        Ok(Some(Frame { fin, compressed, carries, remaining, key }))
    }

    /// Takes a header off `rest`, or the part of it that is there.
    fn read_header(
        &mut self,
        rest: &mut &mut [u8],
        compression: bool,
    ) -> Result<Option<Header>, CloseReason> {
        let underway = self.message().map(Unfinished::kind);
        if self.partial.as_ref().is_none_or(|partial| partial.header_len == 0) {
            if let Some((header, len)) = header::parse(rest, underway, compression)? {
                skip(rest, len);
                return Ok(Some(header));
            }
            let partial = self.partial.get_or_insert_default();
            partial.header[..rest.len()].copy_from_slice(rest);
            partial.header_len = rest.len();
            skip(rest, rest.len());
            return Ok(None);
        }
        // A header that was cut: rare, so byte by byte will do.
        let partial = self.partial.get_or_insert_default();
        while let Some(&byte) = rest.first() {
            skip(rest, 1);
            partial.header[partial.header_len] = byte;
            partial.header_len += 1;
            if let Some((header, _)) =
                header::parse(&partial.header[..partial.header_len], underway, compression)?
            {
                partial.header_len = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Takes the next piece of a data frame's payload, the last one if it ends the frame.
    fn data_piece<'a>(
        &mut self,
        kind: Kind,
        frame: Frame,
        piece: &'a mut [u8],
        rules: &FrameRules,
    ) -> Result<Option<Event<'a>>, CloseReason> {
        let ends_frame = piece.len() == frame.remaining;
        if ends_frame && frame.fin && self.message().is_none() {
            return message::whole(kind, frame.compressed, piece, frame.key, rules).map(Some);
        }
        let partial = self.partial.get_or_insert_default();
        if !ends_frame {
            partial.frame = Some(frame.after(piece.len()));
            if piece.is_empty() {
                // Only the header has arrived: the payload may yet arrive in one piece.
                return Ok(None);
            }
        }
        let begin = || Unfinished::new(kind, frame.compressed);
        let mut message = partial.message.take().unwrap_or_else(begin);
        let len_max = if frame.fin {
            message.len() + frame.remaining
        } else {
            rules.bytes_max(frame.compressed)
        };
        message.take_in(piece, frame.key, len_max, rules)?;
        if ends_frame && frame.fin {
            return message.finish().map(Some);
        }
        partial.message = Some(message);
        Ok(None)
    }

    /// Takes the next piece of a control frame's payload, the last one if it ends the frame.
    fn control_piece<'a>(
        &mut self,
        control: ControlKind,
        frame: Frame,
        piece: &'a mut [u8],
    ) -> Result<Option<Event<'a>>, CloseReason> {
        frame.key.apply(piece);
        if piece.len() < frame.remaining {
            let partial = self.partial.get_or_insert_default();
            partial.control.extend_from_slice(piece);
            partial.frame = Some(frame.after(piece.len()));
            return Ok(None);
        }
        let mut payload: Cow<'a, [u8]> = Cow::Borrowed(piece);
        if let Some(partial) = self.partial.as_mut().filter(|partial| !partial.control.is_empty()) {
            let mut whole = mem::take(&mut partial.control);
            whole.extend_from_slice(&payload);
            payload = Cow::Owned(whole);
        }
        Ok(Some(match control {
            ControlKind::Ping => Event::Ping(payload),
            ControlKind::Pong => Event::Pong(payload),
            ControlKind::Close => Event::Close(CloseFrame::parse(&payload)?),
        }))
    }

    fn message(&self) -> Option<&Unfinished> {
        self.partial.as_ref()?.message.as_ref()
    }
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header_len == 0 && self.frame.is_none() && self.message.is_none()
    }
}

impl Frame {
    /// The same frame after the next `len` bytes of its payload.
    fn after(self, len: usize) -> Self {
        Self { remaining: self.remaining - len, key: self.key.advance(len), ..self }
    }
}

/// Moves the start of `rest` on by `len`.
fn skip(rest: &mut &mut [u8], len: usize) {
    *rest = &mut mem::take(rest)[len..];
}
