//! The origins whose pages may use a public listener: `--allowed-origins`.
//!
//! A browser names the origin of the page behind a request in `Origin` (RFC 6454, §7), one text in
//! one form: so origins are compared whole, byte by byte, and never by their ends, since
//! `https://evil-example.org` ends like `https://example.org` (without the dots that seem to
//! matter). A request without `Origin` is no page's, and passes: other programs could write there
//! what they like. The headers that show an answer to pages are in `routes::cors`.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use http::{HeaderMap, HeaderValue, header};

use crate::limits::ORIGIN_BYTES_MAX;

/// The value that stands for all origins.
const EVERY: &str = "*";

/// The origins that are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// `None`: every one.
    listed: Option<BTreeSet<Origin>>,
    /// Pages of listed origins may send their cookies, and read the answers.
    with_cookies: bool,
}

/// An origin in the form in which browsers send it: `scheme://host[:port]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin(Box<str>);

/// One value of `--allowed-origins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OriginPattern {
    /// `*`.
    Every,
    /// One origin.
    One(Origin),
}

impl Origins {
    /// These and no others.
    #[must_use]
    pub fn listed(origins: impl IntoIterator<Item = Origin>) -> Self {
        Self { listed: Some(origins.into_iter().collect()), with_cookies: false }
    }

    /// Cookies count as credentials, for pages of listed origins: browsers show these an answer to
    /// a request with cookies only where it says so. It has no effect where every origin is
    /// allowed, since the star never covers cookies.
    #[must_use]
    pub fn with_cookies(self) -> Self {
        Self { with_cookies: true, ..self }
    }

    /// Whether every origin is allowed.
    #[must_use]
    pub fn is_every(&self) -> bool {
        self.listed.is_none()
    }

    /// Whether `origin` is in the list. False where there is no list: that all may come says
    /// nothing in favour of this one.
    #[must_use]
    pub fn lists(&self, origin: &str) -> bool {
        self.listed.as_ref().is_some_and(|listed| listed.contains(origin))
    }

    /// The listed origin that a request comes from.
    #[must_use]
    pub fn listed_sender<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let mut values = headers.get_all(header::ORIGIN).iter();
        let value = values.next().filter(|_| values.next().is_none())?;
        value.to_str().is_ok_and(|origin| self.lists(origin)).then_some(value)
    }

    /// Whether a request may be granted: no page sends it, or one of an allowed origin.
    #[must_use]
    pub fn allow(&self, headers: &HeaderMap) -> bool {
        self.is_every()
            || !headers.contains_key(header::ORIGIN)
            || self.listed_sender(headers).is_some()
    }

    /// Whether an answer to a listed origin says that cookies are taken.
    #[must_use]
    pub(super) fn take_cookies(&self) -> bool {
        self.with_cookies
    }
}

impl std::borrow::Borrow<str> for Origin {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl OriginPattern {
    /// A value as it was typed.
    ///
    /// # Errors
    /// When it is no origin; the text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == EVERY { Ok(Self::Every) } else { Origin::parse(text).map(Self::One) }
    }
}

impl Origin {
    /// An origin as it was typed, brought into the form that browsers send: small letters, no
    /// default port.
    ///
    /// # Errors
    /// When it is none, or one that no page can have; the text says what is wrong.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.to_ascii_lowercase();
        if text == "null" {
            return Err("that is the origin of every sandboxed frame and every local file, so of \
                        anybody's page");
        }
        if text.contains('*') {
            return Err("a star stands alone, for every origin: parts of names are not matched");
        }
        let (scheme, authority) =
            text.split_once("://").ok_or("expected scheme://host[:port], or *")?;
        let default_port = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            "ws" | "wss" => return Err("the origin of a page begins with http:// or https://"),
            _ if is_scheme(scheme) => None,
            _ => return Err("expected scheme://host[:port], or *"),
        };
        if authority.contains(['/', '?', '#']) {
            return Err("an origin ends with the host or the port, without a slash or a path");
        }
        let (host, port) = host_and_port(authority)?;
        let port = port.filter(|port| Some(*port) != default_port);
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let origin = format!("{scheme}://{host}{port}");
        if origin.len() > ORIGIN_BYTES_MAX {
            return Err("it is longer than any host's name");
        }
        Ok(Self(origin.into()))
    }
}

fn is_scheme(text: &str) -> bool {
    let is_later = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.bytes().all(is_later)
}

/// The host as browsers write it, and the port.
fn host_and_port(authority: &str) -> Result<(String, Option<u16>), &'static str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or("the bracket has no end")?;
            let address: Ipv6Addr = host.parse().map_err(|_| "that is no IPv6 address")?;
            (format!("[{}]", as_browsers_write(address)), rest)
        }
        None => {
            let (host, rest) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            (name(host)?.to_owned(), rest)
        }
    };
    let port = match rest.strip_prefix(':') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = digits.parse().ok().filter(|port| *port > 0);
            Some(port.ok_or("expected a port from 1 to 65535")?)
        }
        None if rest.is_empty() => None,
        _ => return Err("expected nothing but a port after the host"),
    };
    Ok((host, port))
}

/// A name, or an IPv4 address.
fn name(host: &str) -> Result<&str, &'static str> {
    if host.contains('@') {
        return Err("an origin has no user");
    }
    if !host.is_ascii() {
        return Err("write the name as browsers send it, in ASCII (xn--…)");
    }
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let mut labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_part);
    if !labels.clone().all(is_label) {
        return Err("that is no host's name");
    }
    // Browsers take a last label of digits for an address, and write it in full.
    let last = labels.next_back().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_err() {
        return Err("that is no IPv4 address");
    }
    Ok(host)
}

/// As the URL standard says: without dots, also where IPv4 is mapped.
fn as_browsers_write(address: Ipv6Addr) -> String {
    match address.to_ipv4_mapped() {
        Some(_) => {
            let [.., high, low] = address.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        None => address.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, &'static str> {
        Origin::parse(text).map(|origin| origin.0.into())
    }

    fn headers(origins: &[&'static str]) -> HeaderMap {
        let value = |text: &&'static str| (header::ORIGIN, HeaderValue::from_static(text));
        origins.iter().map(value).collect()
    }

    /// Each is brought into the form that browsers send.
    #[test]
    fn an_origin_is_written_as_browsers_send_it() {
        for (typed, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("http://app.example:443", "http://app.example:443"),
            ("https://app.example:08443", "https://app.example:8443"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://127.0.0.1", "http://127.0.0.1"),
            ("https://[2001:DB8:0:0::1]:8443", "https://[2001:db8::1]:8443"),
            ("https://[::ffff:192.0.2.1]", "https://[::ffff:c000:201]"),
            ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
            ("https://app.example.", "https://app.example."),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ] {
            assert_eq!(parsed(typed).as_deref(), Ok(sent), "{typed}");
        }
    }

    #[test]
    fn a_text_that_no_page_has_is_refused() {
        let long = format!("https://{}example", "a.".repeat(200));
        for (typed, part) in [
            ("", "scheme://host"),
            ("app.example", "scheme://host"),
            ("://app.example", "scheme://host"),
            ("1http://app.example", "scheme://host"),
            ("null", "sandboxed"),
            ("NULL", "sandboxed"),
            ("https://*.app.example", "star"),
            ("*.app.example", "star"),
            ("wss://app.example", "http"),
            ("https://app.example/", "slash"),
            ("https://app.example/chat", "slash"),
            ("https://app.example?x", "slash"),
            ("https://", "no host"),
            ("https://app..example", "no host"),
            ("https://app example", "no host"),
            ("https://me@app.example", "user"),
            ("https://bücher.example", "xn--"),
            ("https://127.1", "IPv4"),
            ("https://300.0.0.1", "IPv4"),
            ("https://[::1", "bracket"),
            ("https://[127.0.0.1]", "IPv6"),
            ("https://app.example:", "port"),
            ("https://app.example:0", "port"),
            ("https://app.example:65536", "port"),
            ("https://app.example:+1", "port"),
            ("https://[::1]8", "port"),
            (&long, "longer"),
        ] {
            let refused = parsed(typed).expect_err(typed);
            assert!(refused.contains(part), "{typed}: {refused}");
        }
    }

    /// Exactly the listed origins pass, and requests that no page sends.
    #[test]
    fn a_list_is_matched_whole() {
        let origins = Origins::listed([Origin::parse("https://app.example").unwrap()]);
        for passes in [&[][..], &["https://app.example"]] {
            assert!(origins.allow(&headers(passes)), "{passes:?}");
        }
        for refused in [
            &["https://app.example:444"][..],
            &["http://app.example"],
            &["https://evil-app.example"],
            &["https://sub.app.example"],
            &["https://app.example.evil.example"],
            &["https://app.example/"],
            &["HTTPS://APP.EXAMPLE"],
            &["null"],
            &[""],
            &["*"],
            &["https://app.example", "https://app.example"],
            &["https://app.example", "https://evil.example"],
        ] {
            assert!(!origins.allow(&headers(refused)), "{refused:?}");
        }
        assert!(origins.lists("https://app.example") && !origins.lists("null"));
    }

    /// The star lets all in, and lists nobody.
    #[test]
    fn the_star_lets_all_in_and_lists_nobody() {
        let origins = Origins::default();
        for passes in [&[][..], &["https://app.example"], &["null"], &["a", "b"]] {
            assert!(origins.allow(&headers(passes)), "{passes:?}");
            assert_eq!(origins.listed_sender(&headers(passes)), None);
        }
        assert!(!origins.lists("https://app.example"));
        assert_eq!(OriginPattern::parse("*"), Ok(OriginPattern::Every));
    }
}
