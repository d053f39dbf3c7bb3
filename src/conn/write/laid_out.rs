//! Long messages in each encoding, written piece by piece: the same bytes as in one go.
//!
//! A piece is written from a part of the payload alone, so the part that a client has reached can
//! be written when the client can take it. None of this is compressed.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use crate::{
    broker::Publication,
    conn::write::encodings,
    hub::{Encoding, LaidOut, LongRecord, PayloadForm, Pieces},
    limits::LONG_PIECE_BYTES,
    ws::{Kind, frame},
};

/// A message in one encoding: text before the payload, the payload in parts, text after it.
#[derive(Debug)]
struct Encoded {
    opening: Bytes,
    payload: Bytes,
    form: PayloadForm,
    closing: Bytes,
}

/// `message` as it is written in a log of `encoding`.
pub(in crate::conn) fn lay_out(message: &Publication, encoding: Encoding) -> LaidOut {
    let mut opening = Vec::new();
    let (form, closing) = match (encoding.uncompressed(), message.kind) {
        (Encoding::V1 | Encoding::V1Deflate(_), kind) => {
            encodings::v1_opening(message, &mut opening);
            opening.push(b'"');
            let is_text = kind == Kind::Text;
            (if is_text { PayloadForm::Escaped } else { PayloadForm::Base64 }, &b"\"}"[..])
        }
        (Encoding::Sse, kind) => {
            encodings::sse_opening_of(message, &mut opening);
            let is_text = kind == Kind::Text;
            (if is_text { PayloadForm::Lines } else { PayloadForm::Base64 }, &b"\n\n"[..])
        }
        (Encoding::Plain | Encoding::Deflate(_), _) => (PayloadForm::AsItIs, &b""[..]),
    };
    let closing = Bytes::from_static(closing);
    let mut encoded =
        Encoded { opening: Bytes::new(), payload: message.data.clone(), form, closing };
    let lengths: Vec<usize> = encoded.parts().map(|part| encoded.length(part)).collect();
    if encoding.has_frames() {
        let whole = opening.len() + lengths.iter().sum::<usize>() + encoded.closing.len();
        let kind = if encoding.is_v1() { Kind::Text } else { message.kind };
        let header = frame::data_header(kind, whole);
        opening.splice(0..0, header.as_ref().iter().copied());
    }
    encoded.opening = opening.into();
    encoded.laid_out(lengths)
}

/// A message as another process has laid it out.
pub(in crate::conn) fn lay_out_again(record: &LongRecord, payload: &Bytes) -> LaidOut {
    let LongRecord { opening, form, closing, .. } = record.clone();
    let encoded = Encoded { opening, payload: payload.clone(), form, closing };
    let lengths = encoded.parts().map(|part| encoded.length(part)).collect();
    encoded.laid_out(lengths)
}

impl Encoded {
    fn parts(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = self.payload.len();
        let starts = (0..length).step_by(LONG_PIECE_BYTES);
        starts.map(move |start| start..length.min(start + LONG_PIECE_BYTES))
    }

    /// With the lengths of the parts of the payload as they are written.
    fn laid_out(self, lengths: Vec<usize>) -> LaidOut {
        let lengths = [self.opening.len()].into_iter().chain(lengths).chain([self.closing.len()]);
        let ends = lengths.scan(0, |end, length| {
            *end += length as u64;
            Some(*end)
        });
        LaidOut { ends: ends.collect(), payload: self.payload.clone(), pieces: Arc::new(self) }
    }

    /// How long a part of the payload is as it is written.
    fn length(&self, part: Range<usize>) -> usize {
        match self.form {
            PayloadForm::AsItIs => part.len(),
            PayloadForm::Escaped => {
                self.payload[part].iter().map(|byte| escaped_bytes(*byte)).sum()
            }
            PayloadForm::Base64 => part.len().div_ceil(3) * 4,
            PayloadForm::Lines => part.map(|place| self.line_bytes(place)).sum(),
        }
    }

    fn line_bytes(&self, place: usize) -> usize {
        match self.payload[place] {
            b'\n' if self.ended_before(place) => 0,
            b'\n' | b'\r' => NEXT_LINE.len(),
            _ => 1,
        }
    }

    /// Whether a carriage return before `place` has ended the line.
    fn ended_before(&self, place: usize) -> bool {
        place > 0 && self.payload[place - 1] == b'\r'
    }

    fn write_lines(&self, part: Range<usize>, into: &mut Vec<u8>) {
        let mut from = part.start;
        while from < part.end {
            let rest = &self.payload[from..part.end];
            let length = rest.iter().position(|byte| b"\r\n".contains(byte));
            into.extend_from_slice(&rest[..length.unwrap_or(rest.len())]);
            let Some(length) = length else { return };
            let end = from + length;
            if self.payload[end] == b'\r' || !self.ended_before(end) {
                into.extend_from_slice(NEXT_LINE);
            }
            from = end + 1;
        }
    }
}

impl Pieces for Encoded {
    fn write(&self, number: usize, into: &mut Vec<u8>) {
        let Some(number) = number.checked_sub(1) else {
            return into.extend_from_slice(&self.opening);
        };
        let length = self.payload.len();
        let start = number.saturating_mul(LONG_PIECE_BYTES);
        if start >= length {
            return into.extend_from_slice(&self.closing);
        }
        let part = start..length.min(start + LONG_PIECE_BYTES);
        match self.form {
            PayloadForm::AsItIs => into.extend_from_slice(&self.payload[part]),
            PayloadForm::Escaped => write_escaped(&self.payload[part], into),
            PayloadForm::Base64 => encodings::put_base64(into, &self.payload[part]),
            PayloadForm::Lines => self.write_lines(part, into),
        }
    }

    fn record(&self) -> (Bytes, PayloadForm, Bytes) {
        (self.opening.clone(), self.form, self.closing.clone())
    }
}

/// The end of a line, and the beginning of the next.
const NEXT_LINE: &[u8] = b"\ndata: ";

/// RFC 8259, section 7: what must be escaped, and its short forms.
fn escaped_bytes(byte: u8) -> usize {
    match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 8 | 12 => 2,
        0..0x20 => 6,
        _ => 1,
    }
}

fn write_escaped(text: &[u8], into: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(length) = rest.iter().position(|byte| escaped_bytes(*byte) > 1) {
        into.extend_from_slice(&rest[..length]);
        let byte = rest[length];
        let short = match byte {
            b'"' | b'\\' => byte,
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            12 => b'f',
            _ => {
                encodings::put(into, format_args!("\\u{byte:04x}"));
                rest = &rest[length + 1..];
                continue;
            }
        };
        into.extend_from_slice(&[b'\\', short]);
        rest = &rest[length + 1..];
    }
    into.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{super::encoder::Encoder, *};
    use crate::{channel::ChannelName, ws::extension::WindowBits};

    /// A long message has in every encoding the same bytes as if written in one go.
    #[test]
    fn a_long_message_is_the_same_in_every_encoding() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut encoder = Encoder::new(usize::MAX, Arc::default());
        let window = WindowBits::new(15).unwrap();
        let deflate = [Encoding::Deflate(window), Encoding::V1Deflate(window)];
        for round in 0..60 {
            let length = random.usize(0..4 * LONG_PIECE_BYTES);
            let alphabet: Vec<char> = match round % 3 {
                0 => "\r\n".chars().collect(),
                1 => (0..0x80).filter_map(char::from_u32).collect(),
                _ => "\r\nä€𝄞\"\\x\u{2028}".chars().collect(),
            };
            let text: String =
                (0..length).map(|_| alphabet[random.usize(0..alphabet.len())]).collect();
            for kind in [Kind::Text, Kind::Binary] {
                let message = Publication {
                    channel: ChannelName::new("a:b").unwrap(),
                    kind,
                    data: text.clone().into(),
                    position: random.bool().then(|| "e:7".parse().unwrap()),
                };
                for encoding in
                    [Encoding::Plain, Encoding::V1, Encoding::Sse].into_iter().chain(deflate)
                {
                    let laid = lay_out(&message, encoding);
                    let mut written = Vec::new();
                    for (number, end) in laid.ends.iter().enumerate() {
                        laid.pieces.write(number, &mut written);
                        assert_eq!(written.len() as u64, *end, "{encoding:?} {kind:?} {number}");
                    }
                    let (header, payload) = encoder.message(encoding, &message);
                    let header = header.as_ref().map_or(&[][..], AsRef::as_ref);
                    assert!(written == [header, payload].concat(), "{encoding:?} {kind:?}");
                }
            }
        }
    }
}
