//! The keys that tokens are verified with, each with the algorithms that it may be used for.
//!
//! The key decides, never the token: a public key is none for HMAC, whatever a token's header says,
//! and a secret serves the hashes that are no longer than it (RFC 7518 §3.2).

mod jwks;
mod pem;
mod public;
mod secret;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};

pub use jwks::InvalidJwks;
pub(super) use jwks::keys as jwks_keys;
pub use pem::{InvalidPem, public_keys};
pub use public::{InvalidPublicKey, PublicKey};
pub use secret::{InvalidSecret, Secret};

use super::{
    error::{Quoted, TokenError},
    header::TokenHeader,
};
use crate::limits::TOKEN_KEYS_TRIED_MAX;

/// A key, of whatever kind. Its `Debug` does not show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Its id, if it came from a key set.
    kid: Option<String>,
    material: Material,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Material {
    Secret(Secret),
    Public(PublicKey),
}

impl Key {
    pub(super) fn hmac(secret: &Secret) -> Self {
        Self { kid: None, material: Material::Secret(secret.clone()) }
    }

    pub(super) fn public(key: PublicKey, kid: Option<String>) -> Self {
        Self { kid, material: Material::Public(key) }
    }

    fn algorithms(&self) -> &'static [Algorithm] {
        match &self.material {
            Material::Secret(secret) => secret.algorithms(),
            Material::Public(key) => key.algorithms,
        }
    }

    /// Whether it has signed `message`, as `signed` says. Never for an algorithm that is not its.
    fn has_signed(&self, message: &[u8], signed: &str, algorithm: Algorithm) -> bool {
        if !self.algorithms().contains(&algorithm) {
            return false;
        }
        let verify =
            |key: &DecodingKey| jsonwebtoken::crypto::verify(signed, message, key, algorithm);
        let verified = match &self.material {
            Material::Secret(secret) => {
                DecodingKey::from_secret(secret.expose()).and_then(|key| verify(&key))
            }
            Material::Public(key) => verify(&key.key),
        };
        verified.unwrap_or(false)
    }

    /// Whether it is tried for a token of that header; one without an id is, for every id.
    fn fits(&self, header: &TokenHeader) -> bool {
        let is_named = match (&self.kid, &header.kid) {
            (Some(own), Some(named)) => own == named,
            _ => true,
        };
        is_named && self.algorithms().contains(&header.algorithm)
    }
}

/// All keys of a moment: those of the options, and those of the issuer's set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KeySet {
    pub(super) given: Vec<Key>,
    pub(super) fetched: Vec<Key>,
}

impl KeySet {
    fn all(&self) -> impl Iterator<Item = &Key> {
        self.given.iter().chain(&self.fetched)
    }

    /// Whether one of the keys has signed `token`, whose head is `header`.
    ///
    /// # Errors
    /// When no key fits the algorithm or the id, or none of those that fit has signed it.
    pub(super) fn verify(&self, token: &str, header: &TokenHeader) -> Result<(), TokenError> {
        let (message, signed) = token.rsplit_once('.').ok_or(TokenError::Signature)?;
        // A key that the token names comes before those that have no id.
        let is_named = |key: &&Key| key.kid.is_some() && key.kid == header.kid;
        let fitting = || self.all().filter(|key| key.fits(header));
        let (named, others) = (fitting().filter(is_named), fitting().filter(|key| !is_named(key)));
        if named
            .chain(others)
            .take(TOKEN_KEYS_TRIED_MAX)
            .any(|key| key.has_signed(message.as_bytes(), signed, header.algorithm))
        {
            return Ok(());
        }
        let is_served = |key: &Key| key.algorithms().contains(&header.algorithm);
        let is_tried = self.all().any(|key| key.fits(header));
        Err(match (&header.kid, is_tried) {
            (_, true) => TokenError::Signature,
            (Some(kid), false) if self.all().any(is_served) => {
                TokenError::UnknownKey(Quoted::new(kid))
            }
            _ => TokenError::Algorithm(Quoted::new(&format!("{:?}", header.algorithm))),
        })
    }

    /// Whether an issuer's newer set may hold the key for a token that none of these has signed: no
    /// fetched key has the id that it names, or it names none. Sets hold no secrets.
    pub(super) fn may_lack(&self, header: &TokenHeader) -> bool {
        let is_known = header.kid.is_some() && self.fetched.iter().any(|key| key.fits(header));
        header.algorithm.family() != AlgorithmFamily::Hmac && !is_known
    }
}

#[cfg(test)]
mod tests;
