//! Keys of the four kinds that are measured, made with openssl, and tokens signed with them.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair},
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use wsbcast::token::{PublicKey, Secret, public_keys};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// A key that tokens are signed with.
pub(super) struct Signer {
    key: Private,
    /// In PEM; empty beside a secret.
    public: String,
}

enum Private {
    Hs256,
    Rs256(RsaKeyPair),
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
}

impl Signer {
    /// One of each kind: a secret, RSA of 2048 bits, P-256, Ed25519.
    pub(super) fn all() -> Result<Vec<Self>> {
        let folder = tempfile::tempdir().context("a folder for keys")?;
        let bad = |_| anyhow!("openssl made another kind of key");
        let (random, p256) = (SystemRandom::new(), &signature::ECDSA_P256_SHA256_FIXED_SIGNING);
        let (rsa, rsa_public) = made(folder.path(), &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"])?;
        let (ec, ec_public) = made(folder.path(), &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"])?;
        let (ed, ed_public) = made(folder.path(), &["ED25519"])?;
        let rsa = Private::Rs256(RsaKeyPair::from_pkcs8(&rsa).map_err(bad)?);
        let ec = Private::Es256(EcdsaKeyPair::from_pkcs8(p256, &ec, &random).map_err(bad)?);
        let ed = Private::EdDsa(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&ed).map_err(bad)?);
        Ok(vec![
            Self { key: Private::Hs256, public: String::new() },
            Self { key: rsa, public: rsa_public },
            Self { key: ec, public: ec_public },
            Self { key: ed, public: ed_public },
        ])
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self.key {
            Private::Hs256 => "HS256",
            Private::Rs256(_) => "RS256",
            Private::Es256(_) => "ES256",
            Private::EdDsa(_) => "EdDSA",
        }
    }

    /// The secret that the server verifies with, if it is one.
    pub(super) fn secret(&self) -> Result<Option<Secret>> {
        let secret = || Secret::new(SECRET).map_err(|error| anyhow!("{error}"));
        matches!(self.key, Private::Hs256).then(secret).transpose()
    }

    /// The public key that the server verifies with, if there is one.
    pub(super) fn public_keys(&self) -> Result<Vec<PublicKey>> {
        if self.public.is_empty() {
            return Ok(Vec::new());
        }
        public_keys(&self.public).map_err(|error| anyhow!("{error}"))
    }

    /// A token of bearer `number`, for some hundred years.
    pub(super) fn token(&self, number: usize) -> String {
        let part = |text: String| URL_SAFE_NO_PAD.encode(text);
        let header = part(format!("{{\"alg\":\"{}\",\"typ\":\"JWT\"}}", self.algorithm()));
        let claims = part(format!(
            "{{\"sub\":\"user-{number}\",\"iat\":1700000000,\"exp\":5000000000,\
             \"wsbcast\":{{\"subscribe\":[\"news.*\",\"user.{number}\"]}}}}"
        ));
        let message = format!("{header}.{claims}");
        let signed = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        const SIGNS: &str = "a key that was read signs";
        let random = SystemRandom::new();
        match &self.key {
            Private::Hs256 => {
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                hmac::sign(&key, message).as_ref().to_vec()
            }
            Private::Rs256(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed).expect(SIGNS);
                signed
            }
            Private::Es256(key) => key.sign(&random, message).expect(SIGNS).as_ref().to_vec(),
            Private::EdDsa(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// A key of `openssl genpkey -algorithm`: the private one in PKCS #8, the public one in PEM.
fn made(folder: &Path, algorithm: &[&str]) -> Result<(Vec<u8>, String)> {
    let private = folder.join(algorithm[0]);
    let openssl = |words: &[&str]| -> Result<Vec<u8>> {
        let output = Command::new("openssl").args(words).arg(&private).output();
        let output = output.context("keys are made with openssl")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    };
    openssl(&[&["genpkey", "-algorithm"][..], algorithm, &["-out"]].concat())?;
    let public = openssl(&["pkey", "-pubout", "-in"])?;
    let pem = fs::read(&private).context("the key that openssl made")?;
    let key = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|error| anyhow!("{error}"))?;
    Ok((key.secret_pkcs8_der().to_vec(), String::from_utf8(public)?))
}
