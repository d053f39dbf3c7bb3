//! Compressed messages, inflated once per thread and not once per client.
//!
//! Every client gets the same bytes, so what they become is remembered: looking a message up
//! costs a comparison, and the load generator stays cheaper than the server that it measures.
//! Length and stamp are all that is kept of the contents.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress};

use crate::stamp::Stamp;

/// More than any batch that a client gets at once.
const SLOTS: usize = 32 * 1024;
/// The bytes that permessage-deflate leaves out at a message's end.
const FLUSH_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

#[derive(Clone, Default)]
struct Slot {
    compressed: Vec<u8>,
    stamp: Option<Stamp>,
    payload_bytes: u64,
}

struct Seen {
    slots: Vec<Slot>,
    inflater: Decompress,
    out: Vec<u8>,
}

thread_local! {
    static SEEN: RefCell<Seen> = RefCell::new(Seen {
        slots: vec![Slot::default(); SLOTS],
        inflater: Decompress::new(false),
        out: vec![0; 64 * 1024],
    });
}

/// Stamp and length of a message, given compressed; none if it is no deflate data.
pub(crate) fn inflated(compressed: &[u8]) -> Option<(Option<Stamp>, u64)> {
    SEEN.with_borrow_mut(|seen| {
        let place = hash(compressed) as usize % SLOTS;
        if seen.slots[place].compressed != compressed || compressed.is_empty() {
            let (stamp, payload_bytes) = inflate(&mut seen.inflater, &mut seen.out, compressed)?;
            let slot = &mut seen.slots[place];
            slot.compressed.clear();
            slot.compressed.extend_from_slice(compressed);
            (slot.stamp, slot.payload_bytes) = (stamp, payload_bytes);
        }
        let slot = &seen.slots[place];
        Some((slot.stamp, slot.payload_bytes))
    })
}

/// The server takes no context over: every message begins anew.
fn inflate(
    inflater: &mut Decompress,
    out: &mut [u8],
    compressed: &[u8],
) -> Option<(Option<Stamp>, u64)> {
    inflater.reset(false);
    let mut stamp = None;
    for part in [compressed, &FLUSH_END] {
        let mut rest = part;
        loop {
            let (used, made) = (inflater.total_in(), inflater.total_out());
            inflater.decompress(rest, out, FlushDecompress::Sync).ok()?;
            if made == 0 {
                stamp = Stamp::decode(&out[..inflater.total_out() as usize]);
            }
            rest = &rest[(inflater.total_in() - used) as usize..];
            if (inflater.total_out() - made) < out.len() as u64 {
                break;
            }
        }
        if !rest.is_empty() {
            return None;
        }
    }
    Some((stamp, inflater.total_out()))
}

/// Tells messages apart that differ in a digit or two.
fn hash(bytes: &[u8]) -> u64 {
    let mix =
        |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    rest.iter().fold(hash, |hash, &byte| mix(hash, byte.into())) >> 32
}

#[cfg(test)]
mod tests {
    use flate2::{Compress, Compression, FlushCompress};

    use super::*;
    use crate::payload::Payload;

    /// Stamp and length are those that were compressed also the second time.
    #[test]
    fn stamp_and_length_are_those_that_were_compressed() {
        let mut compressor = Compress::new(Compression::fast(), false);
        for sequence in (0..1500).chain(0..1500) {
            let stamp = Stamp { run: 1, publisher: 2, sequence, intended_ns: 3 };
            let length = 200 + sequence as usize * 3;
            let mut payload = vec![0; length];
            Payload::Json.fill(&mut payload);
            stamp.encode(&mut payload);
            let mut data = Vec::with_capacity(length + 100);
            compressor.reset();
            compressor.compress_vec(&payload, &mut data, FlushCompress::Sync).unwrap();
            data.truncate(data.len() - FLUSH_END.len());
            assert_eq!(inflated(&data), Some((Some(stamp), length as u64)));
        }
        assert_eq!(inflated(&[0xff; 10]), None);
    }
}
