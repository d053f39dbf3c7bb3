//! Values that must not show up in a log, a panic or a `Debug` print.
//!
//! Each secret can be read through one method only, so a search for its name finds every use.

use std::fmt;

/// A token that allows publishing and administration; visible ASCII, never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(super) fn new(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("a token must not be empty");
        }
        if text.len() > TOKEN_BYTES_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("a token is 1 to 1024 visible ASCII characters, without spaces");
        }
        Ok(Self(text.to_owned()))
    }

    /// The token itself; compare it in constant time.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Longest token: it has to fit into a request's headers.
const TOKEN_BYTES_MAX: usize = 1024;

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The address of Redis, credentials included; prints without them.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl(String);

impl RedisUrl {
    pub(super) fn new(url: String) -> Self {
        Self(url)
    }

    /// The whole URL, for the client.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&without_credentials(&self.0))
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// `url` with user and password, and the query (which may hold a Sentinel's), hidden.
///
/// It works on any text, since an invalid URL is shown to its author too. An unescaped `@` or `?`
/// in a password makes the parts ambiguous: then more is hidden, never less.
pub(super) fn without_credentials(url: &str) -> String {
    let (scheme, rest) =
        url.find("://").map_or(("", url), |place| url.split_at(place + "://".len()));
    let (rest, query) =
        rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let shown_query = if query.is_some() { "?***" } else { "" };
    match (rest.rsplit_once('@'), query) {
        (_, Some(query)) if query.contains('@') => format!("{scheme}***"),
        (Some((_, host)), _) => format!("{scheme}***@{host}{shown_query}"),
        (None, _) => format!("{scheme}{rest}{shown_query}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_print() {
        let token = Token::new("s3cret").unwrap();
        assert!(!format!("{token:?}").contains("s3cret"));
        for url in [
            "redis://user:s3cret@host:6379/1",
            "rediss://:s3cret@host",
            "redis://user:s3c@s3cret@host",
            "user:s3cret@host",
            "redis-sentinel://host:1?sentinelPassword=s3cret",
            "redis://host?password=a@s3cret",
            "redis://user:s3cret?s3cret@host",
        ] {
            let url = RedisUrl::new(url.to_owned());
            let shown = format!("{url} {url:?}");
            assert!(!shown.contains("s3c"), "{shown}");
        }
        assert_eq!(without_credentials("redis://u:p@host:1/2"), "redis://***@host:1/2");
        assert_eq!(without_credentials("redis://host:1/2"), "redis://host:1/2");
    }
}
