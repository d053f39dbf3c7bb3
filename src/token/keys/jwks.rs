//! A JSON Web Key Set (RFC 7517): the usable keys of an issuer's document.
//!
//! The document is a stranger's: its size is bounded before it gets here, its keys are counted, and
//! one that is of no use here (for encryption, of another kind, damaged) is left out, as §5 says.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{Key, public::PublicKey};
use crate::{
    limits::{TOKEN_JWKS_KEYS_MAX, TOKEN_TEXT_BYTES_MAX},
    token::members::Members,
};

/// A document that is no usable set of keys.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidJwks {
    /// Not the JSON of a set.
    #[error("is no JSON Web Key Set: an object with the list \"keys\"")]
    Form,
    /// More keys than an issuer has.
    #[error("has more than {TOKEN_JWKS_KEYS_MAX} keys")]
    TooMany,
    /// Tokens could not be verified with it.
    #[error("has no usable key among its {0}: RSA, P-256, P-384, Ed25519, for signatures")]
    NoneUsable(usize),
}

/// The usable keys of `json`, at least one.
pub(in crate::token) fn keys(json: &[u8]) -> Result<Vec<Key>, InvalidJwks> {
    #[derive(Deserialize)]
    struct Document {
        keys: Vec<Box<RawValue>>,
    }

    let document: Document = serde_json::from_slice(json).map_err(|_| InvalidJwks::Form)?;
    if document.keys.len() > TOKEN_JWKS_KEYS_MAX {
        return Err(InvalidJwks::TooMany);
    }
    let keys: Vec<_> = document.keys.iter().filter_map(|key| usable(key)).collect();
    if keys.is_empty() { Err(InvalidJwks::NoneUsable(document.keys.len())) } else { Ok(keys) }
}

/// The key, if tokens may be verified with it.
fn usable(json: &RawValue) -> Option<Key> {
    let members = Jwk(serde_json::from_str(json.get()).ok()?);
    let is_for_signatures = members.value::<String>("use")?.is_none_or(|purpose| purpose == "sig")
        && members
            .value::<Vec<String>>("key_ops")?
            .is_none_or(|operations| operations.iter().any(|one| one == "verify"));
    // A private key that was published is nobody's any more.
    let is_private = members.0.get("d").is_some();
    if !is_for_signatures || is_private {
        return None;
    }
    let kid = members.value::<String>("kid")?;
    if kid.as_ref().is_some_and(|kid| kid.len() > TOKEN_TEXT_BYTES_MAX) {
        return None;
    }
    let key = members.public_key()?;
    let key = match members.value::<String>("alg")? {
        // An algorithm that contradicts the kind is a mistake, and leaves nothing.
        Some(named) => key.only(named.parse::<Algorithm>().ok()?)?,
        None => key,
    };
    Some(Key::public(key, kid))
}

/// One key of the set.
struct Jwk(Members);

impl Jwk {
    /// The value of `name`, if it is there; `None` if it is of another type.
    fn value<T: DeserializeOwned>(&self, name: &str) -> Option<Option<T>> {
        match self.0.get(name) {
            None => Some(None),
            Some(value) => serde_json::from_str(value.get()).ok().map(Some),
        }
    }

    /// RFC 7518 §6 and RFC 8037 §2. Symmetric keys (`oct`) are never taken from a set.
    fn public_key(&self) -> Option<PublicKey> {
        let curve = self.value::<String>("crv")?;
        let kind = self.value::<String>("kty")??;
        let key = match (kind.as_str(), curve.as_deref()) {
            ("RSA", _) => PublicKey::rsa(&self.bytes("n")?, &self.bytes("e")?),
            ("EC", Some("P-256")) => PublicKey::p256(&self.point()?),
            ("EC", Some("P-384")) => PublicKey::p384(&self.point()?),
            ("OKP", Some("Ed25519")) => PublicKey::ed25519(&self.bytes("x")?),
            _ => return None,
        };
        key.ok()
    }

    fn point(&self) -> Option<Vec<u8>> {
        let (x, y) = (self.bytes("x")?, self.bytes("y")?);
        (x.len() == y.len()).then(|| [&[4], x.as_slice(), y.as_slice()].concat())
    }

    fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.value::<String>(name)??;
        URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
    }
}
