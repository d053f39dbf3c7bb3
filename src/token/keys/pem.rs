//! Public keys from PEM files (RFC 7468): what `openssl pkey -pubout` writes.

use rustls::pki_types::{
    AlgorithmIdentifier, alg_id,
    pem::{self, SectionKind},
};
use thiserror::Error;

use super::public::{InvalidPublicKey, PublicKey};

/// A file that holds no public keys, or others.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidPem {
    /// A secret that must not lie on a server that only verifies.
    #[error("holds a private key: give its public half, which `openssl pkey -pubout` writes")]
    Private,
    /// A certificate is not a key.
    #[error("holds a certificate: `openssl x509 -pubkey -noout` writes its key")]
    Certificate,
    /// An RSA key in the older form of PKCS #1.
    #[error("holds an RSA PUBLIC KEY: `openssl rsa -RSAPublicKey_in -pubout` writes it anew")]
    Pkcs1,
    /// No key in a form that is known.
    #[error("holds no public key in PEM form (-----BEGIN PUBLIC KEY-----)")]
    None,
    /// A key that is not accepted.
    #[error("{0}")]
    Key(#[from] InvalidPublicKey),
}

/// The public keys that `text` holds, at least one.
///
/// # Errors
/// When there is none, or anything else beside them.
pub fn public_keys(text: &str) -> Result<Vec<PublicKey>, InvalidPem> {
    if text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return Err(InvalidPem::Pkcs1);
    }
    if text.contains("PRIVATE KEY-----") {
        return Err(InvalidPem::Private);
    }
    let mut keys = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((kind, der)) = pem::from_buf(&mut rest).map_err(|_| InvalidPem::None)? {
        match kind {
            SectionKind::PublicKey => keys.push(from_spki(&der)?),
            SectionKind::Certificate => return Err(InvalidPem::Certificate),
            _ => return Err(InvalidPem::None),
        }
    }
    if keys.is_empty() { Err(InvalidPem::None) } else { Ok(keys) }
}

/// A `SubjectPublicKeyInfo` (RFC 5280 §4.1.2.7): the algorithm, and the key as a bit string.
fn from_spki(der: &[u8]) -> Result<PublicKey, InvalidPublicKey> {
    let (algorithm, key) = spki(der).ok_or(InvalidPublicKey::Damaged)?;
    let is = |known: &AlgorithmIdentifier| algorithm == known.as_ref();
    if is(&alg_id::RSA_ENCRYPTION) {
        let (n, e) = rsa_numbers(key).ok_or(InvalidPublicKey::Damaged)?;
        return PublicKey::rsa(n, e);
    }
    match () {
        () if is(&alg_id::ECDSA_P256) => PublicKey::p256(key),
        () if is(&alg_id::ECDSA_P384) => PublicKey::p384(key),
        () if is(&alg_id::ED25519) => PublicKey::ed25519(key),
        () => Err(InvalidPublicKey::Kind),
    }
}

fn spki(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (all, b"") = element(SEQUENCE, der)? else { return None };
    let (algorithm, rest) = element(SEQUENCE, all)?;
    let (bits, b"") = element(BIT_STRING, rest)? else { return None };
    // Whole bytes only: no bit of the last is unused.
    Some((algorithm, bits.strip_prefix(&[0])?))
}

/// An `RSAPublicKey` (RFC 8017 §A.1.1).
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (numbers, b"") = element(SEQUENCE, der)? else { return None };
    let (n, rest) = element(INTEGER, numbers)?;
    let (e, b"") = element(INTEGER, rest)? else { return None };
    Some((n, e))
}

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const SEQUENCE: u8 = 0x30;

/// The content of the first element of `der`, which has this tag, and the rest (X.690 §8.1).
fn element(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
        0x82 => rest
            .split_first_chunk::<2>()
            .map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
        _ => return None,
    };
    rest.split_at_checked(length)
}
