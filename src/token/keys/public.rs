//! Public keys: RSA, elliptic curves, Ed25519; checked once, so that verifying never meets a bad
//! one.

use std::fmt;

use jsonwebtoken::{Algorithm, DecodingKey};
use thiserror::Error;

use crate::limits::{TOKEN_RSA_BITS_MAX, TOKEN_RSA_BITS_MIN};

/// A public key with the algorithms that it may be used for.
#[derive(Clone)]
pub struct PublicKey {
    pub(super) algorithms: &'static [Algorithm],
    pub(super) key: DecodingKey,
    /// The bytes that make it this key, for comparisons.
    identity: Vec<u8>,
}

/// A public key that is not accepted.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPublicKey {
    /// A kind that no algorithm here is for.
    #[error("is of a kind that is not supported: RSA, P-256, P-384 and Ed25519 are")]
    Kind,
    /// An RSA key that is too short to be safe, or too long to be fast.
    #[error("is an RSA key of {0} bits: {TOKEN_RSA_BITS_MIN} to {TOKEN_RSA_BITS_MAX} are accepted")]
    RsaBits(usize),
    /// Bytes that are no such key.
    #[error("is damaged: it holds no key of the kind that it names")]
    Damaged,
}

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

impl PublicKey {
    /// An RSA key of modulus `n` and exponent `e`, big-endian.
    pub(super) fn rsa(n: &[u8], e: &[u8]) -> Result<Self, InvalidPublicKey> {
        let (n, e) = (without_zeros(n), without_zeros(e));
        let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
        if !(TOKEN_RSA_BITS_MIN..=TOKEN_RSA_BITS_MAX).contains(&bits) {
            return Err(InvalidPublicKey::RsaBits(bits));
        }
        // Odd, from 3 to 33 bits: those that signatures are checked with.
        let is_exponent = e.last().is_some_and(|last| last % 2 == 1) && e != [1] && e.len() <= 5;
        if !is_exponent || n.last().is_some_and(|last| last % 2 == 0) {
            return Err(InvalidPublicKey::Damaged);
        }
        let key = DecodingKey::from_rsa_raw_components(n, e);
        Ok(Self { algorithms: RSA, key, identity: [n, e].concat() })
    }

    /// A point of P-256, uncompressed (SEC 1 §2.3.3).
    pub(super) fn p256(point: &[u8]) -> Result<Self, InvalidPublicKey> {
        Self::point(point, 32, &[Algorithm::ES256])
    }

    /// A point of P-384, uncompressed.
    pub(super) fn p384(point: &[u8]) -> Result<Self, InvalidPublicKey> {
        Self::point(point, 48, &[Algorithm::ES384])
    }

    fn point(
        point: &[u8],
        coordinate_bytes: usize,
        algorithms: &'static [Algorithm],
    ) -> Result<Self, InvalidPublicKey> {
        if point.first() != Some(&4) || point.len() != 1 + 2 * coordinate_bytes {
            return Err(InvalidPublicKey::Damaged);
        }
        Ok(Self { algorithms, key: DecodingKey::from_ec_der(point), identity: point.to_vec() })
    }

    /// A key of Ed25519 (RFC 8032 §5.1.5).
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, InvalidPublicKey> {
        if bytes.len() != 32 {
            return Err(InvalidPublicKey::Damaged);
        }
        let key = DecodingKey::from_ed_der(bytes);
        Ok(Self { algorithms: &[Algorithm::EdDSA], key, identity: bytes.to_vec() })
    }

    /// This key for `algorithm` only; `None` if it is not for that at all.
    pub(super) fn only(mut self, algorithm: Algorithm) -> Option<Self> {
        let place = self.algorithms.iter().position(|own| *own == algorithm)?;
        self.algorithms = &self.algorithms[place..=place];
        Some(self)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.algorithms == other.algorithms && self.identity == other.identity
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({:?})", self.algorithms)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}
