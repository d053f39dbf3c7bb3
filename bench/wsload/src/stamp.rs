//! The stamp of each message: run, publisher, sequence number, intended send time.
//!
//! Plain hexadecimal text at the start of the payload, so that it passes through servers that
//! only carry UTF-8 and can be read in a packet dump; messages too short for that have the same
//! facts in 16 bytes of text, with fewer bits each. Decoding happens once per delivery and is
//! done a word at a time; it must not allocate.

const MAGIC: [u8; 4] = *b"wsl1";

/// Bytes of a stamp.
pub const STAMP_BYTES: usize = 44;

/// Bytes of a short stamp; the smallest message.
pub const STAMP_BYTES_MIN: usize = 16;
const SHORT_MAGIC: u8 = b'~';
/// The number that a letter of a short stamp adds to its six bits: `0` to `o`, all plain text.
const LETTER_BASE: u8 = b'0';
const LETTER_BITS: u32 = 6;
/// From the left: run, publisher, sequence, microseconds.
const SHORT_RUN_BITS: u32 = 14;
const SHORT_PUBLISHER_BITS: u32 = 8;
const SHORT_SEQUENCE_BITS: u32 = 28;
const SHORT_MICROS_BITS: u32 = 40;
const _: () = assert!(
    SHORT_RUN_BITS + SHORT_PUBLISHER_BITS + SHORT_SEQUENCE_BITS + SHORT_MICROS_BITS
        == LETTER_BITS * (STAMP_BYTES_MIN as u32 - 1)
);

/// The stamp of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Tells this run's messages from anything else on the channel.
    pub run: u32,
    /// Of so many, from 0.
    pub publisher: u32,
    /// 0, 1, 2 … per publisher.
    pub sequence: u32,
    /// When the schedule wanted it sent, not when it was: so a late send counts as latency.
    pub intended_ns: u64,
}

/// As much of a run's number as a message of this size can say.
pub(crate) fn run_in(message_bytes: usize, run: u32) -> u32 {
    if message_bytes < STAMP_BYTES { run & ((1 << SHORT_RUN_BITS) - 1) } else { run }
}

impl Stamp {
    /// Writes the stamp over the start of a payload.
    pub fn encode(&self, payload: &mut [u8]) {
        if payload.len() < STAMP_BYTES {
            return self.encode_short(payload);
        }
        payload[..4].copy_from_slice(&MAGIC);
        encode_hex(self.run, &mut payload[4..12]);
        encode_hex(self.publisher, &mut payload[12..20]);
        encode_hex(self.sequence, &mut payload[20..28]);
        encode_hex((self.intended_ns >> 32) as u32, &mut payload[28..36]);
        encode_hex(self.intended_ns as u32, &mut payload[36..44]);
    }

    /// The stamp at the start of a payload; none if it does not start with one.
    pub fn decode(payload: &[u8]) -> Option<Self> {
        let Some(stamp) = payload.first_chunk::<STAMP_BYTES>() else {
            return Self::decode_short(payload.first_chunk()?);
        };
        if stamp[..4] != MAGIC {
            return None;
        }
        let high = u64::from(decode_hex(stamp, 28));
        Some(Self {
            run: decode_hex(stamp, 4),
            publisher: decode_hex(stamp, 12),
            sequence: decode_hex(stamp, 20),
            intended_ns: high << 32 | u64::from(decode_hex(stamp, 36)),
        })
    }
}

impl Stamp {
    fn encode_short(&self, payload: &mut [u8]) {
        // Rounded up: a message of the window's first moment belongs to the window.
        let micros = u128::from(self.intended_ns.div_ceil(1000));
        let mut bits = u128::from(self.run);
        for (value, width) in [
            (u128::from(self.publisher), SHORT_PUBLISHER_BITS),
            (u128::from(self.sequence), SHORT_SEQUENCE_BITS),
            (micros, SHORT_MICROS_BITS),
        ] {
            bits = bits << width | (value & ((1 << width) - 1));
        }
        payload[0] = SHORT_MAGIC;
        for letter in payload[1..STAMP_BYTES_MIN].iter_mut().rev() {
            *letter = LETTER_BASE + (bits & 0x3f) as u8;
            bits >>= LETTER_BITS;
        }
    }

    fn decode_short(stamp: &[u8; STAMP_BYTES_MIN]) -> Option<Self> {
        if stamp[0] != SHORT_MAGIC {
            return None;
        }
        let letters = stamp[1..].iter().map(|letter| letter.wrapping_sub(LETTER_BASE) & 0x3f);
        let mut bits =
            letters.fold(0_u128, |bits, letter| bits << LETTER_BITS | u128::from(letter));
        let mut take = |width: u32| {
            let value = bits & ((1 << width) - 1);
            bits >>= width;
            value as u64
        };
        let intended_ns = take(SHORT_MICROS_BITS) * 1000;
        let sequence = take(SHORT_SEQUENCE_BITS) as u32;
        let publisher = take(SHORT_PUBLISHER_BITS) as u32;
        Some(Self { run: take(SHORT_RUN_BITS) as u32, publisher, sequence, intended_ns })
    }
}

fn encode_hex(value: u32, digits: &mut [u8]) {
    for (index, digit) in digits.iter_mut().enumerate() {
        let nibble = (value >> (28 - 4 * index)) & 0xf;
        *digit = b"0123456789abcdef"[nibble as usize];
    }
}

/// Eight hexadecimal digits from `at`. Garbage in, garbage out: the run number is the check.
fn decode_hex(stamp: &[u8; STAMP_BYTES], at: usize) -> u32 {
    const LOW_NIBBLES: u64 = 0x0f0f_0f0f_0f0f_0f0f;
    const ONES: u64 = 0x0101_0101_0101_0101;
    let digits: [u8; 8] = stamp[at..at + 8].try_into().expect("eight bytes of a fixed array");
    let text = u64::from_be_bytes(digits);
    // Letters have bit 6 set and count from 1; digits count from 0.
    let nibbles = (text & LOW_NIBBLES) + 9 * ((text >> 6) & ONES);
    let bytes = (nibbles | nibbles >> 4) & 0x00ff_00ff_00ff_00ff;
    let words = (bytes | bytes >> 8) & 0x0000_ffff_0000_ffff;
    (words | words >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_survives_the_trip() {
        for (publisher, sequence, intended_ns) in
            [(0, 0, 0), (65_535, 0xdead_beef, 0x0123_4567_89ab_cdef), (7, u32::MAX, u64::MAX)]
        {
            let stamp = Stamp { run: 0xfeed_0042, publisher, sequence, intended_ns };
            let mut payload = [b'x'; 64];
            stamp.encode(&mut payload);
            assert_eq!(Stamp::decode(&payload), Some(stamp));
            assert!(payload.is_ascii());
        }
    }

    #[test]
    fn a_short_message_has_a_stamp_too() {
        let intended_ns = 86_400_000_000_000;
        for (publisher, sequence) in [(0, 0), (255, (1 << SHORT_SEQUENCE_BITS) - 1), (7, 12_345)] {
            let run = run_in(STAMP_BYTES_MIN, 0xfeed_0042);
            let stamp = Stamp { run, publisher, sequence, intended_ns };
            let mut payload = [b'x'; STAMP_BYTES_MIN];
            stamp.encode(&mut payload);
            assert_eq!(Stamp::decode(&payload), Some(stamp));
            assert!(payload.is_ascii());
        }
        assert_eq!(run_in(STAMP_BYTES, 0xfeed_0042), 0xfeed_0042);
    }

    #[test]
    fn a_short_stamp_is_never_before_its_time() {
        let mut payload = [b'x'; STAMP_BYTES - 1];
        Stamp { run: 1, publisher: 0, sequence: 0, intended_ns: 1_001 }.encode(&mut payload);
        assert_eq!(Stamp::decode(&payload).unwrap().intended_ns, 2_000);
    }

    #[test]
    fn other_messages_have_no_stamp() {
        assert_eq!(Stamp::decode(b""), None);
        assert_eq!(Stamp::decode(b"wsl1 but far too short"), None);
        assert_eq!(Stamp::decode(&[b'0'; 128]), None);
    }
}
