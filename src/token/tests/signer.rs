//! Issuers' private keys of every kind, for tests: tokens, PEM files and key sets made with them.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use rustls::pki_types::alg_id;
use serde_json::{Value, json};

/// A key that tokens are signed with.
pub(in crate::token) enum Signer {
    Hmac(String),
    Rsa(RsaKeyPair),
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(in crate::token) fn hmac(secret: &str) -> Self {
        Self::Hmac(secret.to_owned())
    }

    /// The same key each time: making one takes seconds.
    pub(in crate::token) fn rsa() -> Self {
        let pem: String = include_str!("rsa.pem").lines().filter(|l| !l.contains("--")).collect();
        Self::Rsa(RsaKeyPair::from_pkcs8(&STANDARD.decode(pem).unwrap()).unwrap())
    }

    pub(in crate::token) fn p256() -> Self {
        Self::P256(ecdsa(&signature::ECDSA_P256_SHA256_FIXED_SIGNING))
    }

    pub(in crate::token) fn p384() -> Self {
        Self::P384(ecdsa(&signature::ECDSA_P384_SHA384_FIXED_SIGNING))
    }

    pub(in crate::token) fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    /// A token with this header, signed with the algorithm that it names.
    pub(in crate::token) fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let algorithm = header["alg"].as_str().unwrap();
        let signed = self.sign(algorithm, message.as_bytes());
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signed))
    }

    /// A good token of `algorithm`.
    pub(in crate::token) fn good(&self, algorithm: &str) -> String {
        self.token(&json!({"alg": algorithm}), &good_claims())
    }

    fn sign(&self, algorithm: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(secret) => {
                let hash = match algorithm {
                    "HS384" => hmac::HMAC_SHA384,
                    "HS512" => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), message).as_ref().to_vec()
            }
            Self::Rsa(key) => {
                let encoding: &dyn signature::RsaEncoding = match algorithm {
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    "PS384" => &signature::RSA_PSS_SHA384,
                    "PS512" => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(encoding, &random, message, &mut signed).unwrap();
                signed
            }
            Self::P256(key) | Self::P384(key) => {
                key.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Ed25519(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as `openssl pkey -pubout` writes it.
    pub(in crate::token) fn pem(&self) -> String {
        let (algorithm, key) = match self {
            Self::Hmac(_) => panic!("a secret is not public"),
            Self::Rsa(key) => (alg_id::RSA_ENCRYPTION, key.public_key().as_ref()),
            Self::P256(key) => (alg_id::ECDSA_P256, key.public_key().as_ref()),
            Self::P384(key) => (alg_id::ECDSA_P384, key.public_key().as_ref()),
            Self::Ed25519(key) => (alg_id::ED25519, key.public_key().as_ref()),
        };
        let bits = element(0x03, &[&[0], key].concat());
        let der = element(0x30, &[element(0x30, algorithm.as_ref()), bits].concat());
        let base64 = STANDARD.encode(der);
        let lines: Vec<_> =
            base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// The public key as a member of a key set.
    pub(in crate::token) fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let point = |curve: &str, point: &[u8]| {
            let (x, y) = point[1..].split_at(point.len() / 2);
            json!({"kty": "EC", "crv": curve, "x": text(x), "y": text(y)})
        };
        let mut jwk = match self {
            Self::Hmac(secret) => json!({"kty": "oct", "k": text(secret.as_bytes())}),
            Self::Rsa(key) => {
                let numbers = rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({"kty": "RSA", "n": text(&numbers.n), "e": text(&numbers.e)})
            }
            Self::P256(key) => point("P-256", key.public_key().as_ref()),
            Self::P384(key) => point("P-384", key.public_key().as_ref()),
            Self::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "x": text(key.public_key().as_ref())})
            }
        };
        jwk["kid"] = kid.into();
        jwk
    }
}

/// Claims that give a right, for some thousand years.
pub(in crate::token) fn good_claims() -> Value {
    json!({"exp": 100_000_000_000_u64, "sub": "a", "wsbcast": {"subscribe": ["news.*"]}})
}

fn ecdsa(algorithm: &'static signature::EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
}

/// An element of DER: tag, length, content.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let head = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [head, content.to_vec()].concat()
}
