//! Who may publish and administer: a pure function of the rules and of what a request says.
//!
//! With a token set, whoever has it. Without one, whoever sits at this machine and is neither a
//! web page from elsewhere (`Origin`, or DNS rebinding seen in `Host`) nor the internet through a
//! proxy on this machine (`Forwarded` and its like). The decision is made here and nowhere else.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, Uri, header};
use subtle::ConstantTimeEq;

use crate::broker::Principal;

/// What the options say.
#[derive(Clone, Default)]
pub struct Rules {
    /// `--api-token`, any of which will do; empty: the loopback rule.
    pub tokens: Vec<String>,
    /// `--insecure-api`: anyone may publish; administration stays closed.
    pub insecure_publish: bool,
}

impl std::fmt::Debug for Rules {
    /// Without the tokens: they must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("tokens", &self.tokens.len())
            .field("insecure_publish", &self.insecure_publish)
            .finish()
    }
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish a message.
    Publish,
    /// Change the process: `POST /admin/drain`.
    Administer,
    /// Look at admin routes on a public listener.
    Look,
}

/// What a request says about who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Asker<'a> {
    /// The other end of the connection.
    pub peer: IpAddr,
    /// The request's target.
    pub uri: &'a Uri,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// `?token=`, where the route takes one: browsers cannot set headers in a handshake.
    pub query_token: Option<&'a str>,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// A token is set and was not given, or another was: 401.
    Unauthorized,
    /// No token is set and the loopback rule is not met: 403.
    Forbidden,
}

impl Rules {
    /// Whether `asker` has `right`.
    #[must_use]
    pub fn judge(&self, right: Right, asker: &Asker<'_>) -> Verdict {
        let open = match right {
            Right::Publish => self.insecure_publish,
            Right::Administer => false,
            Right::Look => asker.is_at_this_machine(),
        };
        if open {
            return Verdict::Allowed;
        }
        match (self.tokens.is_empty(), self.presented(asker)) {
            (false, Some(true)) => Verdict::Allowed,
            (false, _) => Verdict::Unauthorized,
            (true, _) if asker.is_at_this_machine() => Verdict::Allowed,
            (true, _) => Verdict::Forbidden,
        }
    }

    /// As whom `asker`, who may publish, does so: not the same as whether it may, which anybody
    /// does with `--insecure-api`. What a page sends itself is a client's, as if it came over a
    /// WebSocket, also where the page is this machine's own: browsers and other programs that
    /// fetch as they do say so.
    #[must_use]
    pub fn principal(&self, asker: &Asker<'_>) -> Principal {
        let is_local_program =
            || self.tokens.is_empty() && asker.is_at_this_machine() && !asker.fetches();
        if self.presented(asker) == Some(true) || is_local_program() {
            Principal::Api
        } else {
            Principal::Anonymous
        }
    }

    /// As whom a client publishes that has shown this in its handshake.
    #[must_use]
    pub fn principal_of_client(&self, asker: &Asker<'_>) -> Principal {
        match self.presented(asker) {
            Some(true) => Principal::Api,
            _ => Principal::Anonymous,
        }
    }

    /// Whether the token in the request is right; `None` if there is none.
    #[must_use]
    pub fn presented(&self, asker: &Asker<'_>) -> Option<bool> {
        let given = asker.bearer().or_else(|| asker.query_token.map(str::as_bytes))?;
        // All tokens are compared, whichever fits: the time tells at most their lengths.
        let fits = self
            .tokens
            .iter()
            .fold(subtle::Choice::from(0), |fits, token| fits | token.as_bytes().ct_eq(given));
        Some(fits.into())
    }
}

impl<'a> Asker<'a> {
    fn bearer(&self) -> Option<&'a [u8]> {
        let value = self.headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    }

    /// The loopback rule.
    #[must_use]
    pub fn is_at_this_machine(&self) -> bool {
        let Some(host) = self.host() else { return false };
        self.peer.to_canonical().is_loopback()
            && names_loopback(host)
            && !self.headers.keys().any(tells_of_a_proxy)
            && self.origin_is(host)
    }

    /// Whether a browser sent it, or `fetch` elsewhere.
    fn fetches(&self) -> bool {
        self.headers.contains_key(header::ORIGIN) || self.headers.contains_key("sec-fetch-mode")
    }

    /// The one host that the request names; `None` if it names none, or several.
    fn host(&self) -> Option<&'a str> {
        let mut named = self.headers.get_all(header::HOST).iter();
        let host = named.next()?.to_str().ok()?;
        let absolute = self.uri.authority().map_or(host, |authority| authority.as_str());
        (named.next().is_none() && absolute.eq_ignore_ascii_case(host)).then_some(host)
    }

    /// Whether there is no `Origin`, or it is a page that `host` itself served.
    fn origin_is(&self, host: &str) -> bool {
        let mut origins = self.headers.get_all(header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        let Some((scheme, authority)) = origin.to_str().ok().and_then(|o| o.split_once("://"))
        else {
            return false;
        };
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return false,
        };
        let bare = |text: &'a str| text.strip_suffix(default_port).unwrap_or(text);
        let bare_host = host.strip_suffix(default_port).unwrap_or(host);
        origins.next().is_none() && bare(authority).eq_ignore_ascii_case(bare_host)
    }
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with any port.
fn names_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix("[::1]") {
        Some(port) => ("localhost", port),
        None => host.split_at(host.find(':').unwrap_or(host.len())),
    };
    let port_ok = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback());
    port_ok && is_loopback
}

/// Headers that proxies add about whom they speak for.
fn tells_of_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    matches!(name, "forwarded" | "via" | "x-real-ip") || name.starts_with("x-forwarded-")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Judges a request with these header lines and nothing else.
    fn judge(rules: &Rules, right: Right, peer: &str, lines: &[&str]) -> Verdict {
        let mut headers = HeaderMap::new();
        for line in lines {
            let (name, value) = line.split_once(": ").unwrap();
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let uri = Uri::from_static("/broadcast");
        let peer = peer.parse().unwrap();
        let asker = Asker { peer, uri: &uri, headers: &headers, query_token: None };
        rules.judge(right, &asker)
    }

    #[test]
    fn without_a_token_only_programs_on_this_machine_may() {
        #[rustfmt::skip]
        let allowed: &[(&str, &[&str])] = &[
            ("127.0.0.1", &["Host: localhost"]),
            ("127.8.9.1", &["Host: LocalHost:8000"]),
            ("::1", &["Host: [::1]:8000"]),
            ("::ffff:127.0.0.1", &["Host: 127.1.2.3:1"]),
            ("::1", &["Host: [::1]", "Origin: http://[::1]"]),
            ("127.0.0.1", &["Host: localhost:8000", "Origin: http://localhost:8000"]),
            ("127.0.0.1", &["Host: localhost", "Origin: http://localhost:80"]),
            ("127.0.0.1", &["Host: localhost:443", "Origin: https://localhost"]),
        ];
        #[rustfmt::skip]
        let forbidden: &[(&str, &[&str])] = &[
            ("192.168.0.7", &["Host: localhost"]),
            ("2001:db8::1", &["Host: localhost"]),
            ("127.0.0.1", &[]),
            ("127.0.0.1", &["Host: "]),
            ("127.0.0.1", &["Host: localhost", "Host: localhost"]),
            ("127.0.0.1", &["Host: evil.example"]),
            ("127.0.0.1", &["Host: localhost.evil.example"]),
            ("127.0.0.1", &["Host: 127.0.0.1.evil.example"]),
            ("127.0.0.1", &["Host: localhost:80:80"]),
            ("127.0.0.1", &["Host: localhost:x"]),
            ("127.0.0.1", &["Host: x@localhost"]),
            ("127.0.0.1", &["Host: [::1]x"]),
            ("127.0.0.1", &["Host: 128.0.0.1"]),
            ("127.0.0.1", &["Host: localhost", "Forwarded: for=1.2.3.4"]),
            ("127.0.0.1", &["Host: localhost", "X-Forwarded-For: 1.2.3.4"]),
            ("127.0.0.1", &["Host: localhost", "x-forwarded-proto: https"]),
            ("127.0.0.1", &["Host: localhost", "Via: 1.1 proxy"]),
            ("127.0.0.1", &["Host: localhost", "X-Real-IP: 1.2.3.4"]),
            ("127.0.0.1", &["Host: localhost", "Origin: null"]),
            ("127.0.0.1", &["Host: localhost", "Origin: http://evil.example"]),
            ("127.0.0.1", &["Host: localhost:8000", "Origin: http://localhost:3000"]),
            ("127.0.0.1", &["Host: localhost:8000", "Origin: http://127.0.0.1:8000"]),
            ("127.0.0.1", &["Host: localhost", "Origin: ftp://localhost"]),
            ("127.0.0.1", &["Host: localhost", "Origin: http://localhost", "Origin: null"]),
        ];
        let rules = Rules::default();
        for right in [Right::Publish, Right::Administer, Right::Look] {
            for (peer, lines) in allowed {
                assert_eq!(judge(&rules, right, peer, lines), Verdict::Allowed, "{lines:?}");
            }
            for (peer, lines) in forbidden {
                assert_eq!(judge(&rules, right, peer, lines), Verdict::Forbidden, "{lines:?}");
            }
        }
    }

    #[test]
    fn with_a_token_whoever_has_it_may_and_nobody_else() {
        use Verdict::{Allowed, Unauthorized};
        let rules = |insecure_publish| Rules {
            tokens: vec!["alpha".into(), "beta".into()],
            insecure_publish,
        };
        let only_insecure = [Unauthorized, Allowed, Unauthorized, Unauthorized];
        let (local, foreign) = ("127.0.0.1", "203.0.113.9");
        #[rustfmt::skip]
        let table = [
            (foreign, "Authorization: Bearer alpha", [Allowed, Allowed, Allowed, Allowed]),
            (foreign, "Authorization: bEARER  beta", [Allowed, Allowed, Allowed, Allowed]),
            (foreign, "Authorization: Bearer alph", only_insecure),
            (foreign, "Authorization: Bearer ", only_insecure),
            (foreign, "Authorization: Basic alpha", only_insecure),
            (foreign, "Authorization: Bearer", only_insecure),
            (local, "Accept: */*", [Unauthorized, Allowed, Unauthorized, Allowed]),
        ];
        for (peer, line, expected) in table {
            let lines = [line, "Host: localhost"];
            let given = [
                judge(&rules(false), Right::Publish, peer, &lines),
                judge(&rules(true), Right::Publish, peer, &lines),
                judge(&rules(true), Right::Administer, peer, &lines),
                judge(&rules(true), Right::Look, peer, &lines),
            ];
            assert_eq!(given, expected, "{peer} {line}");
        }
    }

    #[test]
    fn insecure_opens_publishing_and_nothing_else() {
        let rules = Rules { tokens: vec![], insecure_publish: true };
        let foreign = ["Host: example.org", "Origin: https://evil.example"];
        let judge = |right| judge(&rules, right, "203.0.113.9", &foreign);
        assert_eq!(judge(Right::Publish), Verdict::Allowed);
        assert_eq!(judge(Right::Administer), Verdict::Forbidden);
        assert_eq!(judge(Right::Look), Verdict::Forbidden);
    }

    #[test]
    fn keys_belong_to_whoever_shows_a_token_or_is_a_program_of_this_machine() {
        use Principal::{Anonymous, Api};
        let with_token = Rules { tokens: vec!["alpha".into()], insecure_publish: true };
        let open = Rules { tokens: vec![], insecure_publish: true };
        let (local, foreign) = ("127.0.0.1", "203.0.113.9");
        #[rustfmt::skip]
        let table: &[(&Rules, &str, &[&str], Principal, Principal)] = &[
            (&with_token, foreign, &["Authorization: Bearer alpha"], Api, Api),
            (&with_token, foreign, &["Authorization: Bearer alpha", "Origin: http://x"], Api, Api),
            (&with_token, foreign, &["Authorization: Bearer beta"], Anonymous, Anonymous),
            (&with_token, foreign, &[], Anonymous, Anonymous),
            (&with_token, local, &["Host: localhost"], Anonymous, Anonymous),
            (&open, local, &["Host: localhost"], Api, Anonymous),
            (&open, local, &["Host: localhost", "Authorization: Bearer x"], Api, Anonymous),
            (&open, local, &["Host: localhost", "Origin: http://localhost"], Anonymous, Anonymous),
            (&open, local, &["Host: localhost", "Sec-Fetch-Mode: cors"], Anonymous, Anonymous),
            (&open, local, &["Host: localhost", "X-Forwarded-For: 1.2.3.4"], Anonymous, Anonymous),
            (&open, foreign, &["Host: localhost"], Anonymous, Anonymous),
        ];
        for (rules, peer, lines, published, client) in table {
            let mut headers = HeaderMap::new();
            for line in *lines {
                let (name, value) = line.split_once(": ").unwrap();
                headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
            }
            let uri = Uri::from_static("/broadcast");
            let peer = peer.parse().unwrap();
            let asker = Asker { peer, uri: &uri, headers: &headers, query_token: None };
            let given = (rules.principal(&asker), rules.principal_of_client(&asker));
            assert_eq!(given, (*published, *client), "{peer} {lines:?}");
        }
    }

    #[test]
    fn an_absolute_target_must_name_the_same_host() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("localhost:8000"));
        let peer = Ipv4Addr::LOCALHOST.into();
        for (target, expected) in
            [("http://localhost:8000/broadcast", true), ("http://evil.example/broadcast", false)]
        {
            let uri = Uri::from_static(target);
            let asker = Asker { peer, uri: &uri, headers: &headers, query_token: None };
            assert_eq!(asker.is_at_this_machine(), expected, "{target}");
        }
    }

    #[test]
    fn tokens_stay_out_of_debug_output() {
        let rules = Rules { tokens: vec!["hush".into()], insecure_publish: false };
        assert!(!format!("{rules:?}").contains("hush"));
    }
}
