//! The XOR mask on every client frame (RFC 6455 §5.3).
//!
//! Every inbound byte passes here, so eight are processed at a time, which the compiler turns into
//! vector instructions. A payload may arrive in pieces: `advance` rotates the key to the start of
//! the next piece.

/// A frame's masking key, rotated to the next payload byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MaskKey(pub(super) [u8; 4]);

impl MaskKey {
    /// Unmasks `bytes` (or masks them: it is its own inverse).
    pub(super) fn apply(self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let (blocks, tail) = bytes.as_chunks_mut::<8>();
        for block in blocks {
            *block = (u64::from_ne_bytes(*block) ^ wide).to_ne_bytes();
        }
        for (index, byte) in tail.iter_mut().enumerate() {
            *byte ^= self.0[index % 4];
        }
    }

    /// The key for the payload after the next `len` bytes.
    pub(super) fn advance(mut self, len: usize) -> Self {
        self.0.rotate_left(len % 4);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each byte meets its own byte of the key wherever the payload is cut.
    #[test]
    fn each_byte_meets_its_own_byte_of_the_key() {
        let key = MaskKey([0x37, 0xFA, 0x21, 0x3D]);
        for len in 0..40 {
            let plain: Vec<u8> = (100..).take(len).collect();
            let masked: Vec<u8> =
                plain.iter().enumerate().map(|(index, byte)| byte ^ key.0[index % 4]).collect();
            for cut in 0..=len {
                let mut bytes = masked.clone();
                let (first, second) = bytes.split_at_mut(cut);
                key.apply(first);
                key.advance(cut).apply(second);
                assert_eq!(bytes, plain, "{len} bytes cut at {cut}");
            }
        }
    }
}
