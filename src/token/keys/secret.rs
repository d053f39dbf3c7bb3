//! HMAC secrets: a text, as it is, and the hashes that it is long enough for.

use std::fmt;

use jsonwebtoken::Algorithm;
use thiserror::Error;

/// An HMAC secret: the bytes of a text, as it is. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

/// The text can't be an HMAC secret.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSecret {
    /// Guessing it would be easier than the hash allows.
    #[error("is shorter than 32 bytes; `openssl rand -hex 32` makes a good one")]
    Short,
    /// A public key as a secret would let everybody make tokens.
    #[error("is a key in PEM form, which is no HMAC secret: see --jwt-public-key")]
    Pem,
    /// Secrets are texts of one line.
    #[error("has several lines: a secret is one, and each has a file of its own")]
    Lines,
}

const HMAC: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// The length of each one's hash: a shorter secret does not serve it (RFC 7518 §3.2).
const HASH_BYTES: [usize; 3] = [32, 48, 64];

impl Secret {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is shorter than the shortest hash, or is obviously something else.
    pub fn new(text: &str) -> Result<Self, InvalidSecret> {
        if text.contains("-----BEGIN ") {
            return Err(InvalidSecret::Pem);
        }
        if text.contains(['\n', '\r']) {
            return Err(InvalidSecret::Lines);
        }
        if text.len() < HASH_BYTES[0] {
            return Err(InvalidSecret::Short);
        }
        Ok(Self(text.into()))
    }

    /// The secret itself.
    pub(in crate::token) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The algorithms that it serves, weakest first; at least one.
    pub(in crate::token) fn algorithms(&self) -> &'static [Algorithm] {
        let serves = HASH_BYTES.iter().filter(|bytes| **bytes <= self.0.len()).count();
        &HMAC[..serves]
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_as_long_as_its_hash() {
        for (bytes, algorithms) in [(32, 1), (47, 1), (48, 2), (63, 2), (64, 3), (1000, 3)] {
            let secret = Secret::new(&"s".repeat(bytes)).unwrap();
            assert_eq!(secret.algorithms(), &HMAC[..algorithms], "{bytes}");
            assert!(!format!("{secret:?}").contains("sss"));
        }
        assert_eq!(Secret::new(&"s".repeat(31)), Err(InvalidSecret::Short));
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----";
        assert_eq!(Secret::new(pem), Err(InvalidSecret::Pem));
        let two = format!("{}\n{}", "s".repeat(32), "t".repeat(32));
        assert_eq!(Secret::new(&two), Err(InvalidSecret::Lines));
    }
}
