//! The client's side of TLS: which authorities are trusted, and which certificate is shown.
//!
//! Files are read once; a connection that a server refuses later says so itself.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject as _},
    sign::SingleCertAndKey,
};

use super::{
    certificates::{BadPair, File, Pair, pem_words},
    store::{PairFiles, content},
};

/// The authorities in the file at `path`, at least one.
///
/// # Errors
/// When there is none, or something that is none.
pub fn authorities(path: &str) -> Result<RootCertStore, BadPair> {
    let content = content(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&content) {
        let certificate =
            certificate.map_err(|error| BadPair::Pem(path.to_owned(), pem_words(&error)))?;
        roots
            .add(certificate)
            .map_err(|error| BadPair::Certificate(path.to_owned(), error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(BadPair::NoCertificate(path.to_owned()));
    }
    Ok(roots)
}

/// No authority: for a look at a pair alone.
#[must_use]
pub fn no_authorities() -> RootCertStore {
    RootCertStore::empty()
}

/// Settings by which servers of `roots` are trusted, and are shown the certificate of `files`.
///
/// # Errors
/// When that pair can't be used.
pub fn client_config(
    roots: RootCertStore,
    files: Option<&PairFiles>,
) -> Result<ClientConfig, BadPair> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for all versions")
        .with_root_certificates(roots);
    let Some(files) = files else { return Ok(config.with_no_client_auth()) };
    let (chain, key) = (content(&files.certificate)?, content(&files.key)?);
    let chain = File { name: &files.certificate, content: &chain };
    let pair = Pair::new(&chain, &File { name: &files.key, content: &key })?;
    Ok(config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair.key))))
}
