//! permessage-deflate's payload: RFC 7692 §7.2, one message at a time, with no state between
//! messages.
//!
//! A [`Compressor`] or [`Inflater`] serves any number of clients, since without context takeover
//! every message is independent. Inflating is bounded by the longest message allowed: a message
//! that becomes longer is refused at that point, not when it is complete. Frames are not known
//! here.

use std::fmt;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Kind, close::CloseReason, extension::WindowBits};
use crate::limits::{CODEC_KEPT_BYTES_MAX, INFLATE_BYTES_MIN};

/// 1 KiB of JSON shrinks to 43 % at level 1, 33 % at level 3, 32 % at level 6, in 5, 20 and
/// 30 µs: once, where the sends to a thousand clients take a few hundred.
const LEVEL: u32 = 3;

/// The end of a flushed message, which is not sent: the rest of an empty block.
const FLUSH_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
/// The same followed by an empty last block: only a complete message ends the stream with it.
pub(super) const INFLATE_END: [u8; 9] = [0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff];

/// How many bytes a message of `len` may take when compressed by the most careless compressor, one
/// that stores it in small blocks.
#[must_use]
pub fn compressed_len_max(len: usize) -> usize {
    len.saturating_add(len / 8).saturating_add(64)
}

/// Compresses messages for one window size.
pub struct Compressor(Compress);

impl Compressor {
    /// Takes 250 KiB for the smallest window, 380 KiB for the largest.
    #[must_use]
    pub fn new(window: WindowBits) -> Self {
        let level = Compression::new(LEVEL);
        Self(Compress::new_with_window_bits(level, false, window.get()))
    }

    /// Compresses a whole message into `out`, replacing its content. False if the message got no
    /// shorter.
    pub fn message(&mut self, payload: &[u8], out: &mut Vec<u8>) -> bool {
        make_room(out, payload.len() + FLUSH_END.len());
        self.0.reset();
        let flushed = self.0.compress_vec(payload, out, FlushCompress::Sync);
        // With no room left, the end may still be inside the compressor.
        let is_whole = flushed.is_ok()
            && self.0.total_in() == payload.len() as u64
            && out.len() < out.capacity()
            && out.ends_with(&FLUSH_END);
        out.truncate(out.len().saturating_sub(FLUSH_END.len()));
        is_whole && out.len() < payload.len()
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").finish_non_exhaustive()
    }
}

/// Inflates messages compressed with any window. It allocates its memory, about 50 KiB, with the
/// first message.
#[derive(Debug, Default)]
pub struct Inflater {
    state: Option<Decompress>,
    out: Vec<u8>,
    produced_bytes: usize,
}

impl Inflater {
    /// Inflates a whole message of at most `bytes_max`; text is checked.
    ///
    /// # Errors
    /// The reason to close with: `TooBig`, `Protocol` if the data is no deflate stream, `BadUtf8`.
    pub fn message(
        &mut self,
        kind: Kind,
        data: &[u8],
        bytes_max: usize,
    ) -> Result<&[u8], CloseReason> {
        make_room(&mut self.out, 0);
        // No compressor produces this for a message, but some peers send it for an empty one.
        let inflated = if data.is_empty() { Ok(()) } else { self.inflate(data, bytes_max) };
        self.produced_bytes += self.out.len();
        inflated?;
        if kind == Kind::Text {
            std::str::from_utf8(&self.out).map_err(|_| CloseReason::BadUtf8)?;
        }
        Ok(&self.out)
    }

    /// Bytes inflated since the last call, including those of messages that were refused.
    pub fn take_produced(&mut self) -> usize {
        std::mem::take(&mut self.produced_bytes)
    }

    fn inflate(&mut self, data: &[u8], bytes_max: usize) -> Result<(), CloseReason> {
        let state = self.state.get_or_insert_with(|| Decompress::new(false));
        state.reset(false);
        if !feed(state, data, false, &mut self.out, bytes_max)? {
            feed(state, &INFLATE_END, true, &mut self.out, bytes_max)?;
        }
        Ok(())
    }
}

/// Inflates `input` onto the end of `out`, all that it is enough for. True if the stream ended with
/// it, which the last input has to do.
fn feed(
    state: &mut Decompress,
    input: &[u8],
    is_last: bool,
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, CloseReason> {
    let mut rest = input;
    loop {
        // One byte more than allowed, to tell "as long as allowed" from "longer".
        grow(out, input.len(), bytes_max.saturating_add(1));
        let used_before = state.total_in();
        let status = state.decompress_vec(rest, out, FlushDecompress::Sync);
        // Before errors: how much room there was beyond the bound decides about nothing.
        if out.len() > bytes_max {
            return Err(CloseReason::TooBig);
        }
        let status = status.map_err(|_| CloseReason::Protocol)?;
        let used =
            usize::try_from(state.total_in() - used_before).expect("no more than it was given");
        rest = &rest[used..];
        if status == Status::StreamEnd {
            if rest.is_empty() {
                return Ok(true);
            }
            // A block may call itself the last (§7.2.3.5) and be followed by others.
            state.reset(false);
        } else if out.len() < out.capacity() {
            // There is room, so input is lacking. With a full output nothing is known: output and
            // the end of the stream may be waiting in the state when all input is used up.
            let may_follow = !is_last && rest.is_empty();
            return if may_follow { Ok(false) } else { Err(CloseReason::Protocol) };
        }
    }
}

/// Empties `buffer`, frees the excess of an unusually long message, and makes room for `bytes`.
fn make_room(buffer: &mut Vec<u8>, bytes: usize) {
    buffer.clear();
    if buffer.capacity() > CODEC_KEPT_BYTES_MAX && bytes <= CODEC_KEPT_BYTES_MAX {
        *buffer = Vec::new();
    }
    buffer.reserve_exact(bytes);
}

/// Makes room in a full buffer, but for no more than `bytes_max` in all.
fn grow(out: &mut Vec<u8>, compressed_len: usize, bytes_max: usize) {
    if out.len() < out.capacity() {
        return;
    }
    let wanted = (out.capacity() * 2).max(compressed_len.saturating_mul(4)).max(INFLATE_BYTES_MIN);
    out.reserve_exact(wanted.min(bytes_max).saturating_sub(out.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn window(bits: u8) -> WindowBits {
        WindowBits::new(bits).unwrap()
    }

    fn inflated(data: &[u8], bytes_max: usize) -> Result<Vec<u8>, CloseReason> {
        Inflater::default().message(Kind::Binary, data, bytes_max).map(<[u8]>::to_vec)
    }

    /// Words, which compress, and noise.
    fn payload(random: &mut fastrand::Rng) -> Vec<u8> {
        let len = 1_usize << random.u32(0..18);
        let mut payload = Vec::with_capacity(len);
        while payload.len() < len {
            match random.u8(0..4) {
                0 => payload.push(random.u8(..)),
                1 => payload.extend_from_slice(b"\"channel\": \"notifications\", "),
                2 => payload.extend_from_slice(random.u32(0..1000).to_string().as_bytes()),
                _ => {
                    let start = random.usize(0..=payload.len());
                    let end = (start + random.usize(0..300)).min(payload.len());
                    payload.extend_from_within(start..end);
                }
            }
        }
        payload.truncate(len);
        payload
    }

    /// The output of another implementation of the RFC: any level, any window, cut anywhere.
    fn foreign(random: &mut fastrand::Rng, payload: &[u8]) -> Vec<u8> {
        let level = Compression::new(random.u32(0..=9));
        let mut state = Compress::new_with_window_bits(level, false, random.u8(9..=15));
        let mut out = Vec::with_capacity(2 * payload.len() + 10_000);
        let cut = random.usize(0..=payload.len());
        let flushes = [FlushCompress::Sync, FlushCompress::None, FlushCompress::Full];
        let flush = flushes[random.usize(0..3)];
        state.compress_vec(&payload[..cut], &mut out, flush).unwrap();
        if random.bool() {
            state.compress_vec(&payload[cut..], &mut out, FlushCompress::Sync).unwrap();
            if out.ends_with(&FLUSH_END) {
                out.truncate(out.len() - FLUSH_END.len());
            }
        } else {
            state.compress_vec(&payload[cut..], &mut out, FlushCompress::Finish).unwrap();
            out.push(0);
        }
        out
    }

    #[test]
    fn the_rfcs_examples_are_inflated() {
        let table: [&[u8]; 5] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // Not compressed.
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            // A last block.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            // Without the empty block that should follow it.
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            // Two blocks.
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        for data in table {
            assert_eq!(inflated(data, 5).as_deref(), Ok(&b"Hello"[..]), "{data:02x?}");
        }
        for empty in [&[][..], &[0x00], &[0x02, 0x00]] {
            assert_eq!(inflated(empty, 0).as_deref(), Ok(&b""[..]), "{empty:02x?}");
        }
    }

    /// Any reader with the window inflates a compressed message to what came in.
    #[test]
    fn compressed_messages_suit_any_reader() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut out = Vec::new();
        for bits in 9..=15 {
            let mut compressor = Compressor::new(window(bits));
            for _ in 0..60 {
                let payload = payload(&mut random);
                if !compressor.message(&payload, &mut out) {
                    continue;
                }
                assert!(out.len() < payload.len());
                let mut reader = Decompress::new_with_window_bits(false, bits);
                let mut read = Vec::with_capacity(payload.len() + 1);
                let whole = [out.as_slice(), &FLUSH_END].concat();
                reader.decompress_vec(&whole, &mut read, FlushDecompress::Sync).unwrap();
                assert!(read == payload, "window {bits}, {} bytes", payload.len());
            }
        }
    }

    /// Equal messages become equal bytes, whatever came before.
    #[test]
    fn equal_messages_become_equal_bytes() {
        let mut random = fastrand::Rng::with_seed(2);
        let mut compressor = Compressor::new(WindowBits::MAX);
        let (message, mut out) = (b"{\"price\": 12, \"price\": 13}".repeat(9), Vec::new());
        assert!(compressor.message(&message, &mut out));
        let first = out.clone();
        for _ in 0..50 {
            compressor.message(&payload(&mut random), &mut out);
            assert!(compressor.message(&message, &mut out));
            assert_eq!(out, first);
        }
    }

    /// Data that does not shrink is refused and never costs more than itself.
    #[test]
    fn incompressible_data_costs_no_more_than_itself() {
        let mut compressor = Compressor::new(WindowBits::MAX);
        let mut random = fastrand::Rng::with_seed(4);
        for len in [0, 1, 5, 100, 10_000, 200_000] {
            let noise: Vec<u8> = (0..len).map(|_| random.u8(..)).collect();
            let mut out = Vec::new();
            assert!(!compressor.message(&noise, &mut out), "{len}");
            assert!(out.capacity() <= len + FLUSH_END.len());
        }
    }

    /// Any compressor's messages are inflated and the bound is exact.
    #[test]
    fn messages_of_any_compressor_are_inflated() {
        let mut random = fastrand::Rng::with_seed(5);
        let mut inflater = Inflater::default();
        for round in 0..400 {
            let payload = payload(&mut random);
            let data = foreign(&mut random, &payload);
            assert!(data.len() <= compressed_len_max(payload.len()) + 10, "round {round}");
            let len = payload.len();
            let exact = inflater.message(Kind::Binary, &data, len);
            assert_eq!(exact, Ok(payload.as_slice()), "round {round}");
            let short = inflater.message(Kind::Binary, &data, len - 1);
            assert_eq!(short, Err(CloseReason::TooBig), "round {round}");
        }
    }

    #[test]
    fn a_bomb_costs_no_more_memory_than_the_bound() {
        let mut compressor = Compressor::new(WindowBits::MAX);
        let mut bomb = Vec::new();
        assert!(compressor.message(&vec![0; 50_000_000], &mut bomb));
        assert!(bomb.len() < 100_000);
        let mut inflater = Inflater::default();
        assert_eq!(inflater.message(Kind::Binary, &bomb, MAX), Err(CloseReason::TooBig));
        assert!(inflater.out.capacity() <= MAX + 1, "{}", inflater.out.capacity());
        assert!((MAX..=MAX + 1).contains(&inflater.take_produced()));
        assert_eq!(inflater.message(Kind::Binary, &[], MAX), Ok(&[][..]));
        assert!(inflater.out.capacity() <= CODEC_KEPT_BYTES_MAX);
    }

    /// Data that is no whole stream is a protocol error and spoils nothing after it.
    #[test]
    fn an_incomplete_stream_is_a_protocol_error() {
        let mut random = fastrand::Rng::with_seed(6);
        let mut inflater = Inflater::default();
        let payload = b"one message, and one message more".repeat(20);
        let mut whole = Vec::new();
        assert!(Compressor::new(WindowBits::MAX).message(&payload, &mut whole));
        for cut in 1..whole.len() {
            let verdict = inflater.message(Kind::Binary, &whole[..cut], MAX);
            assert_eq!(verdict, Err(CloseReason::Protocol), "cut at {cut} of {}", whole.len());
        }
        for _ in 0..20_000 {
            let mut noise: Vec<u8> = (0..random.usize(1..60)).map(|_| random.u8(..)).collect();
            if random.bool() {
                noise.splice(0..0, whole[..random.usize(0..whole.len())].iter().copied());
            }
            let _ = inflater.message(Kind::Binary, &noise, 5_000);
        }
        assert_eq!(inflater.message(Kind::Binary, &whole, MAX), Ok(payload.as_slice()));
    }

    /// A last block may end when the output is full and the input used up: the room that earlier
    /// messages have left decides about nothing.
    #[test]
    fn a_last_block_may_end_with_a_full_output() {
        // 2,067 zeros by another compressor, in one last block whose last byte gives 259 of them.
        let zeros = [
            0xed, 0xc1, 0x31, 0x01, 0x00, 0x00, 0x00, 0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x0d, 0x0f,
            0xa0, 0x00, 0x00, 0xdb,
        ];
        for room in 0..3_000 {
            let mut inflater = Inflater { out: Vec::with_capacity(room), ..Inflater::default() };
            let inflated = inflater.message(Kind::Binary, &zeros, 2_067);
            assert_eq!(inflated, Ok(&[0; 2_067][..]), "room for {room}");
        }
    }

    #[test]
    fn text_is_checked_after_inflating() {
        let mut inflater = Inflater::default();
        let (mut out, mut compressor) = (Vec::new(), Compressor::new(WindowBits::MAX));
        let text = "κόσμε ".repeat(20);
        assert!(compressor.message(text.as_bytes(), &mut out));
        assert_eq!(inflater.message(Kind::Text, &out, MAX), Ok(text.as_bytes()));
        assert!(compressor.message(&text.as_bytes()[..text.len() - 2], &mut out));
        assert_eq!(inflater.message(Kind::Text, &out, MAX), Err(CloseReason::BadUtf8));
        assert!(inflater.message(Kind::Binary, &out, MAX).is_ok());
    }
}
