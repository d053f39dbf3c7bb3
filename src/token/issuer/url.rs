//! Where an issuer's key set is: an https URL, or an http one on this machine.

use std::fmt;

use thiserror::Error;
use url::{Host, Url};

/// A URL from which keys may be fetched. Its `Display` leaves the query out: it may hold a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// A URL from which no keys are fetched.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidJwksUrl {
    /// Not a URL with a host.
    #[error("expected https://HOST/PATH, or the path of a file")]
    Form,
    /// Everybody on the way could replace the keys.
    #[error("http is for this machine only (127.0.0.1, [::1], localhost): expected https://")]
    Unsafe,
    /// They would end up in logs.
    #[error("must not hold a user or a password")]
    Credentials,
}

impl JwksUrl {
    /// Checks `text`.
    ///
    /// # Errors
    /// When it is not https, and not http on this machine.
    pub fn new(text: &str) -> Result<Self, InvalidJwksUrl> {
        let url = Url::parse(text).map_err(|_| InvalidJwksUrl::Form)?;
        let is_local = match url.host().ok_or(InvalidJwksUrl::Form)? {
            Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
            Host::Ipv4(address) => address.is_loopback(),
            Host::Ipv6(address) => address.is_loopback(),
        };
        match url.scheme() {
            _ if !url.username().is_empty() || url.password().is_some() => {
                Err(InvalidJwksUrl::Credentials)
            }
            "https" => Ok(Self(url)),
            "http" if is_local => Ok(Self(url)),
            "http" => Err(InvalidJwksUrl::Unsafe),
            _ => Err(InvalidJwksUrl::Form),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(super) fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = self.0.as_str().find(['?', '#']).unwrap_or(self.0.as_str().len());
        f.write_str(&self.0.as_str()[..end])
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JwksUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for text in
            ["https://a.example/jwks", "http://127.0.0.1:1/", "http://[::1]/a", "http://LOCALHOST/"]
        {
            assert!(JwksUrl::new(text).is_ok(), "{text}");
        }
        for (text, error) in [
            ("http://a.example/", InvalidJwksUrl::Unsafe),
            ("http://localhost.a.example/", InvalidJwksUrl::Unsafe),
            ("http://10.0.0.1/", InvalidJwksUrl::Unsafe),
            ("https://user:s3cret@a.example/", InvalidJwksUrl::Credentials),
            ("ftp://a.example/", InvalidJwksUrl::Form),
            ("file:///etc/jwks", InvalidJwksUrl::Form),
            ("https://", InvalidJwksUrl::Form),
            ("jwks.json", InvalidJwksUrl::Form),
        ] {
            assert_eq!(JwksUrl::new(text), Err(error), "{text}");
        }
        let url = JwksUrl::new("https://a.example/jwks?key=s3cret#s3cret").unwrap();
        assert_eq!(format!("{url} {url:?}").matches("s3cret").count(), 0);
    }
}
