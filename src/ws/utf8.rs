//! UTF-8 validation of text that arrives in pieces.
//!
//! A text message must be refused at its first wrong byte, not when it ends (RFC 6455 §8.1 read
//! strictly, as the conformance suite does), and a frame or a read may cut a character anywhere.
//! Most bytes go through the standard library; only a cut character is kept, at most three bytes.
//! Nothing else is stored or copied.

use thiserror::Error;

/// The bytes so far cannot begin any UTF-8 text, or, at the end, are incomplete.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not UTF-8")]
pub struct Invalid;

/// Checks one text that arrives in pieces.
///
/// # Invariants
/// `cut[..cut_len]` is a valid but incomplete character; after an error the value must not be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validator {
    cut: [u8; 4],
    cut_len: u8,
}

impl Validator {
    /// Takes the next piece.
    ///
    /// # Errors
    /// At the first wrong byte, even if its character is not complete yet.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Invalid> {
        let rest = self.end_cut_character(piece)?;
        match std::str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(Invalid),
            Err(error) => {
                let tail = &rest[error.valid_up_to()..];
                self.cut[..tail.len()].copy_from_slice(tail);
                self.cut_len = tail.len() as u8;
                Ok(())
            }
        }
    }

    /// Checks whether the text may end here.
    ///
    /// # Errors
    /// When the last character is incomplete.
    pub fn finish(&self) -> Result<(), Invalid> {
        if self.cut_len == 0 { Ok(()) } else { Err(Invalid) }
    }

    /// The bytes of the character that is cut.
    #[must_use]
    pub fn cut(&self) -> &[u8] {
        &self.cut[..usize::from(self.cut_len)]
    }

    /// Feeds bytes to the cut character until it is complete; returns the remaining bytes.
    fn end_cut_character<'a>(&mut self, piece: &'a [u8]) -> Result<&'a [u8], Invalid> {
        let mut rest = piece;
        while self.cut_len > 0 {
            let Some((&byte, after)) = rest.split_first() else { break };
            rest = after;
            let len = usize::from(self.cut_len);
            self.cut[len] = byte;
            match std::str::from_utf8(&self.cut[..=len]) {
                Ok(_) => self.cut_len = 0,
                Err(error) if error.error_len().is_some() => return Err(Invalid),
                Err(_) => self.cut_len += 1,
            }
        }
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Index of the first byte at which a check byte by byte fails, if it does.
    fn first_wrong_byte(bytes: &[u8]) -> Option<usize> {
        let mut validator = Validator::default();
        bytes.iter().position(|&byte| validator.push(&[byte]).is_err())
    }

    #[test]
    fn the_first_wrong_byte_is_the_one_that_fails() {
        let table: [(&[u8], Option<usize>); 16] = [
            (b"", None),
            (b"plain", None),
            ("κόσμε 🎈".as_bytes(), None),
            (b"\x80", Some(0)),
            (b"\xc0\xaf", Some(0)),
            (b"\xc1", Some(0)),
            (b"a\xc3(", Some(2)),
            (b"\xe0\x80\x80", Some(1)),
            (b"\xe0\xa0\x80", None),
            (b"\xed\x9f\xbf", None),
            (b"\xed\xa0\x80", Some(1)),
            (b"\xf0\x8f\xbf\xbf", Some(1)),
            (b"\xf4\x8f\xbf\xbf", None),
            (b"\xf4\x90\x80\x80", Some(1)),
            (b"\xf5\x80\x80\x80", Some(0)),
            (b"\xff", Some(0)),
        ];
        for (bytes, wrong) in table {
            assert_eq!(first_wrong_byte(bytes), wrong, "{bytes:02x?}");
            let mut whole = Validator::default();
            assert_eq!(whole.push(bytes).is_err(), wrong.is_some(), "{bytes:02x?}");
        }
    }

    /// Every character passes in pieces and no text may end inside one.
    #[test]
    fn every_character_passes_in_pieces() {
        for character in (0..=0x10_FFFF_u32).step_by(7).filter_map(char::from_u32) {
            let mut buffer = [0; 4];
            let bytes = character.encode_utf8(&mut buffer).as_bytes();
            let mut validator = Validator::default();
            for (index, byte) in bytes.iter().enumerate() {
                assert_eq!(validator.push(&[*byte]), Ok(()), "{character:?}");
                assert_eq!(validator.push(&[]), Ok(()), "{character:?}");
                assert_eq!(validator.finish().is_ok(), index + 1 == bytes.len(), "{character:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_split_gives_the_standard_librarys_verdict(
            noise in prop::collection::vec(any::<u8>(), 0..12),
            text in "\\PC{0,12}",
            noise_first in any::<bool>(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = if noise_first {
                [noise.as_slice(), text.as_bytes()].concat()
            } else {
                [text.as_bytes(), noise.as_slice()].concat()
            };
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();

            let mut validator = Validator::default();
            let mut pieces = at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]);
            let verdict = pieces
                .try_for_each(|piece| validator.push(piece))
                .and_then(|()| validator.finish());
            prop_assert_eq!(verdict.is_ok(), std::str::from_utf8(&bytes).is_ok());

            let no_text_begins_so = |end: &usize| {
                std::str::from_utf8(&bytes[..=*end])
                    .is_err_and(|error| error.error_len().is_some())
            };
            prop_assert_eq!(first_wrong_byte(&bytes), (0..bytes.len()).find(no_text_begins_so));
        }
    }
}
