//! Certificates with their keys, checked, and the choice among them by the name a client asks for.
//!
//! Pure: the texts of files come in, a set that cannot be wrong comes out, or the reason why there
//! is none. A key never reaches a message.

use std::{fmt, io, sync::Arc, time::Duration};

use rustls::{
    Error, InconsistentKeys,
    client::verify_server_name,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName,
        pem::{self, PemObject as _},
    },
    server::ParsedCertificate,
    sign::CertifiedKey,
};
use thiserror::Error;

use super::validity::not_after;

/// A certificate and a key that cannot be used together.
#[derive(Debug, Error)]
pub enum BadPair {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    File(String, io::Error),
    /// A file is longer than any chain.
    #[error("{0} is larger than 1 MiB: no such file")]
    Long(String),
    /// It has no certificate.
    #[error("{0} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate(String),
    /// It is no PEM.
    #[error("{0} is no PEM: {1}")]
    Pem(String, String),
    /// It is PEM around something else.
    #[error("{0} holds something that is no certificate: {1}")]
    Certificate(String, String),
    /// It has no key.
    #[error("{0} holds no private key in PEM (-----BEGIN PRIVATE KEY-----, without a password)")]
    NoKey(String),
    /// A key of a kind that cannot be used.
    #[error("{0} holds a key that cannot be used (RSA from 2048 bits, P-256, P-384, Ed25519 can)")]
    Key(String),
    /// They do not belong together.
    #[error("the key in {key} does not belong to the certificate in {certificate}")]
    Mismatch {
        /// The file of the chain.
        certificate: String,
        /// The file of the key.
        key: String,
    },
}

impl BadPair {
    /// The file that is to be looked at.
    #[must_use]
    pub fn file(&self) -> &str {
        match self {
            Self::File(file, _)
            | Self::Long(file)
            | Self::NoCertificate(file)
            | Self::Pem(file, _)
            | Self::Certificate(file, _)
            | Self::NoKey(file)
            | Self::Key(file)
            | Self::Mismatch { key: file, .. } => file,
        }
    }
}

/// A file as it was read: its name, for messages, and its content.
pub(super) struct File<'a> {
    pub(super) name: &'a str,
    pub(super) content: &'a [u8],
}

/// A certificate with its key.
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    not_after: Duration,
    name: String,
}

/// All pairs of a server; the first one serves clients whose name no certificate has.
pub struct CertificateSet(Vec<Arc<Pair>>);

impl fmt::Debug for CertificateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|pair| &pair.name)).finish()
    }
}

impl CertificateSet {
    /// A set of these pairs, at least one.
    pub(super) fn new(pairs: Vec<Arc<Pair>>) -> Self {
        Self(pairs)
    }

    pub(super) fn pairs(&self) -> &[Arc<Pair>] {
        &self.0
    }

    /// The end of each certificate's validity since 1970, with the name of its file.
    pub fn ends(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0.iter().map(|pair| (&*pair.name, pair.not_after))
    }

    /// The pair for a client that asks for `name`: the first one that has it, or the first of all.
    pub(super) fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let (default, others) = self.0.split_first()?;
        let named = || {
            let name = ServerName::try_from(name?).ok()?;
            let has_it = |pair: &&Arc<Pair>| pair.has_name(&name);
            [default].into_iter().chain(others).find(has_it)
        };
        // There may be nothing to choose from.
        let chosen = if others.is_empty() { None } else { named() };
        Some(chosen.unwrap_or(default).key.clone())
    }
}

impl Pair {
    pub(super) fn new(chain: &File<'_>, key: &File<'_>) -> Result<Self, BadPair> {
        let name = || chain.name.to_owned();
        let certificates = CertificateDer::pem_slice_iter(chain.content)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BadPair::Pem(name(), pem_words(&error)))?;
        let first = certificates.first().ok_or_else(|| BadPair::NoCertificate(name()))?;
        for certificate in &certificates {
            ParsedCertificate::try_from(certificate)
                .map_err(|error| BadPair::Certificate(name(), error.to_string()))?;
        }
        let not_after = not_after(first)
            .ok_or_else(|| BadPair::Certificate(name(), "it has no end of validity".to_owned()))?;
        let private = PrivateKeyDer::from_pem_slice(key.content).map_err(|error| match error {
            pem::Error::NoItemsFound => BadPair::NoKey(key.name.to_owned()),
            error => BadPair::Pem(key.name.to_owned(), pem_words(&error)),
        })?;
        let certified = CertifiedKey::from_der(certificates, private, &ring::default_provider());
        let certified = certified.map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                BadPair::Mismatch { certificate: name(), key: key.name.to_owned() }
            }
            _ => BadPair::Key(key.name.to_owned()),
        })?;
        Ok(Self { key: Arc::new(certified), not_after, name: name() })
    }

    fn has_name(&self, name: &ServerName<'_>) -> bool {
        let first = self.key.cert.first().and_then(|first| ParsedCertificate::try_from(first).ok());
        first.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

/// An error of PEM without a quotation: a line of it may be one of a key.
pub(super) fn pem_words(error: &pem::Error) -> String {
    match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end",
        pem::Error::IllegalSectionStart { .. } => "a section begins wrongly",
        pem::Error::Base64Decode(_) => "a section is no base64",
        _ => "it cannot be read",
    }
    .to_owned()
}
