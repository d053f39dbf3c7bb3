//! What each message says about itself: run, publisher, sequence number, intended send time.
//!
//! Plain hexadecimal text at the start of the payload, so that it passes through servers that
//! only carry UTF-8 and can be read in a packet dump. Decoding happens once per delivery and is
//! done a word at a time; it must not allocate.

const MAGIC: [u8; 4] = *b"wsl1";

/// Bytes of a stamp; the smallest message.
pub(crate) const STAMP_BYTES: usize = 44;

/// The stamp of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Tells this run's messages from anything else on the channel.
    pub(crate) run: u32,
    pub(crate) publisher: u32,
    /// 0, 1, 2 … per publisher.
    pub(crate) sequence: u32,
    /// When the schedule wanted it sent, not when it was: so a late send counts as latency.
    pub(crate) intended_ns: u64,
}

impl Stamp {
    /// Writes the stamp over the first `STAMP_BYTES` of a payload.
    pub(crate) fn encode(&self, payload: &mut [u8]) {
        payload[..4].copy_from_slice(&MAGIC);
        encode_hex(self.run, &mut payload[4..12]);
        encode_hex(self.publisher, &mut payload[12..20]);
        encode_hex(self.sequence, &mut payload[20..28]);
        encode_hex((self.intended_ns >> 32) as u32, &mut payload[28..36]);
        encode_hex(self.intended_ns as u32, &mut payload[36..44]);
    }

    /// The stamp at the start of a payload; none if it does not start with one.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let stamp: &[u8; STAMP_BYTES] = payload.first_chunk()?;
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
    fn other_messages_have_no_stamp() {
        assert_eq!(Stamp::decode(b""), None);
        assert_eq!(Stamp::decode(b"wsl1 but far too short"), None);
        assert_eq!(Stamp::decode(&[b'0'; 128]), None);
    }
}
