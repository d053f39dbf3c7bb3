//! One attempt to get an issuer's key set, bounded in time, bytes and redirections.
//!
//! It blocks, so it has a thread of its own. The answer is a stranger's: nothing of it is believed
//! before it has been read as a set of keys.

use std::{sync::Arc, time::Duration};

use rustls::crypto::ring;
use thiserror::Error;
use ureq::{
    Agent,
    http::header::CACHE_CONTROL,
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

use super::JwksUrl;
use crate::{
    limits::{TOKEN_JWKS_BYTES_MAX, TOKEN_JWKS_HEAD_BYTES_MAX, TOKEN_JWKS_REDIRECTIONS_MAX},
    token::keys::{self, InvalidJwks, Key},
};

/// A fetched set.
#[derive(Debug)]
pub(in crate::token) struct Fetched {
    pub(in crate::token) keys: Vec<Key>,
    /// For how long it is fresh, as the issuer says.
    pub(in crate::token) fresh_for: Option<Duration>,
}

/// Why there is no newer set.
#[derive(Debug, Error)]
pub(in crate::token) enum FetchError {
    /// No answer, or one that says no.
    #[error("{0}")]
    Http(#[from] Box<ureq::Error>),
    /// The answer is a redirection that is not followed.
    #[error("the answer is {0}: redirections are followed from https to https only")]
    Status(u16),
    /// The answer is no set of keys.
    #[error("the answer {0}")]
    Set(#[from] InvalidJwks),
}

/// Fetches the set, within `deadline`.
///
/// # Errors
/// When there is no answer in time, or none that is a usable set.
pub(in crate::token) fn fetch(url: &JwksUrl, deadline: Duration) -> Result<Fetched, FetchError> {
    let mut answer = agent(url, deadline).get(url.as_str()).call().map_err(Box::new)?;
    if !answer.status().is_success() {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let fresh_for =
        answer.headers().get(CACHE_CONTROL).and_then(|value| value.to_str().ok().and_then(max_age));
    let body = answer.body_mut().with_config().limit(TOKEN_JWKS_BYTES_MAX as u64);
    let keys = keys::jwks_keys(&body.read_to_vec().map_err(Box::new)?)?;
    Ok(Fetched { keys, fresh_for })
}

/// A client for one attempt, with the authorities that the system trusts now (or `SSL_CERT_FILE`).
fn agent(url: &JwksUrl, deadline: Duration) -> Agent {
    let mut authorities = Vec::new();
    if url.is_https() {
        let found = rustls_native_certs::load_native_certs().certs;
        authorities.extend(found.iter().map(|der| Certificate::from_der(der).to_owned()));
    }
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(authorities)))
        .build();
    let config = Agent::config_builder();
    // An issuer on this machine is asked directly: no proxy brings keys over plain HTTP.
    let config = if url.is_https() { config } else { config.proxy(None) };
    config
        .https_only(url.is_https())
        .max_redirects(if url.is_https() { TOKEN_JWKS_REDIRECTIONS_MAX } else { 0 })
        .timeout_global(Some(deadline))
        .max_response_header_size(TOKEN_JWKS_HEAD_BYTES_MAX)
        .max_idle_connections(0)
        .user_agent(concat!("wsbcast/", env!("CARGO_PKG_VERSION")))
        .accept("application/jwk-set+json, application/json")
        .tls_config(tls)
        .build()
        .new_agent()
}

/// The freshness that `Cache-Control` gives (RFC 9111 §5.2.2): none for what must not be kept.
fn max_age(value: &str) -> Option<Duration> {
    let directives: Vec<_> =
        value.split(',').map(|directive| directive.trim().to_ascii_lowercase()).collect();
    if directives.iter().any(|directive| directive == "no-store" || directive == "no-cache") {
        return Some(Duration::ZERO);
    }
    let secs = directives.iter().find_map(|directive| directive.strip_prefix("max-age="))?;
    secs.trim_matches('"').parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freshness_is_read_from_cache_control() {
        for (value, secs) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=\"60\", must-revalidate", Some(60)),
            ("max-age=300, no-cache", Some(0)),
            ("no-store", Some(0)),
            ("public", None),
            ("max-age=-1", None),
            ("max-age=99999999999999999999999", None),
            ("", None),
        ] {
            assert_eq!(max_age(value), secs.map(Duration::from_secs), "{value}");
        }
    }
}
