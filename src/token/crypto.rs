//! The signatures: jsonwebtoken's interface over ring, which TLS uses already.
//!
//! Which algorithms a key may be used with is decided in `keys`; here an algorithm and a key that
//! do not belong together are an error once more. Tokens are made with HMAC secrets only.

use std::sync::LazyLock;

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, EncodingKey,
    crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils},
    errors::{ErrorKind, Result},
    signature::{Error as SignatureError, Signer, Verifier},
};
use ring::{
    hmac,
    signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey},
};

/// Makes this the provider of the process. Repeatable.
pub(super) fn install() {
    static INSTALLED: LazyLock<()> = LazyLock::new(|| {
        // An error means that there is one already.
        let _ = PROVIDER.install_default();
    });
    LazyLock::force(&INSTALLED);
}

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: |&algorithm, key| {
        let hash = hmac_hash(algorithm).ok_or(ErrorKind::UnsupportedAlgorithm)?;
        Ok(Box::new(HmacSigner { algorithm, key: hmac::Key::new(hash, secret(key)?) }))
    },
    verifier_factory: |&algorithm, key| match key.family() == algorithm.family() {
        true => Ok(Box::new(RingVerifier { algorithm, key: key.clone() })),
        false => Err(ErrorKind::InvalidAlgorithm.into()),
    },
    // Only for JWKs made of keys, which nothing here does.
    key_utils: KeyUtils::new_unimplemented(),
};

fn secret(key: &EncodingKey) -> Result<&[u8]> {
    match key.family() {
        AlgorithmFamily::Hmac => Ok(key.as_bytes()),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

fn hmac_hash(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::HS256 => Some(hmac::HMAC_SHA256),
        Algorithm::HS384 => Some(hmac::HMAC_SHA384),
        Algorithm::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// The parameters for RSA keys from 2048 to 8192 bits.
fn rsa_parameters(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::RS256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::PS384 => Some(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::PS512 => Some(&signature::RSA_PSS_2048_8192_SHA512),
        _ => None,
    }
}

struct HmacSigner {
    algorithm: Algorithm,
    key: hmac::Key,
}

impl Signer<Vec<u8>> for HmacSigner {
    fn try_sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, SignatureError> {
        Ok(hmac::sign(&self.key, message).as_ref().to_vec())
    }
}

impl JwtSigner for HmacSigner {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl RingVerifier {
    fn is_signed(&self, message: &[u8], signed: &[u8]) -> Option<()> {
        let key = self.key.kind();
        if let Some(hash) = hmac_hash(self.algorithm) {
            let key = hmac::Key::new(hash, self.key.try_get_as_bytes().ok()?);
            return hmac::verify(&key, message, signed).ok();
        }
        if let Some(parameters) = rsa_parameters(self.algorithm) {
            let DecodingKeyKind::RsaModulusExponent { n, e } = key else { return None };
            return RsaPublicKeyComponents { n, e }.verify(parameters, message, signed).ok();
        }
        let bytes = self.key.try_get_as_bytes().ok()?;
        match self.algorithm {
            Algorithm::ES256 => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, bytes)
                .verify(message, signed),
            Algorithm::ES384 => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, bytes)
                .verify(message, signed),
            Algorithm::EdDSA => {
                UnparsedPublicKey::new(&signature::ED25519, bytes).verify(message, signed)
            }
            _ => return None,
        }
        .ok()
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> std::result::Result<(), SignatureError> {
        self.is_signed(message, signed).ok_or_else(SignatureError::new)
    }
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}
