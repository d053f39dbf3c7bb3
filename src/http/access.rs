//! The right to publish, administer and look: a pure function of the rules, of the connection's
//! owner, and of the request's headers.
//!
//! With a token set, every request that shows it has the right; one that shows another is refused,
//! also where it would have the right without: a credential that is shown decides. Without one, a
//! request has the right if its connection comes from this machine and from this process's own user
//! or root (`owner`), and if it is neither from a web page of another origin (`Origin`, fetch
//! metadata, or DNS rebinding visible in `Host`) nor from the internet through a proxy that says so
//! (`Forwarded` and its like). A connection from a trusted proxy is nobody's own (`driver`). The
//! decision is made here and nowhere else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderMap, HeaderName, Uri, Version, header};

use crate::{
    broker::{Principal, PublisherClass},
    channel::ChannelPatterns,
    http::{api_tokens::ApiTokens, owner::Owner},
    peer::{ClientAddress, PeerAddress},
};

/// The browser's statement about the page that asks.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// Words in the names of headers by which proxies name the client they speak for.
const IN_PROXIES_NAMES: [&str; 8] =
    ["forwarded", "real-ip", "client-ip", "clientip", "user-ip", "remote-addr", "proxy", "viewer-"];
/// Beginnings of such names, where vendors put their own name first.
const PROXIES_NAMES: [&str; 32] = [
    "x-original-",
    "x-envoy-",
    "x-amz-",
    "x-amzn-",
    "x-akamai-",
    "akamai-",
    "x-azure-",
    "x-fd-",
    "x-cloud-trace-",
    "x-goog-",
    "x-rewrite-",
    "x-request-start",
    "x-auth-request-",
    "x-varnish",
    "x-sucuri-",
    "x-incap-",
    "incap-",
    "x-nf-",
    "rndr-",
    "x-appengine-",
    "x-vercel-",
    "x-arr-",
    "cf-",
    "cdn-",
    "fastly-",
    "fly-",
    "cloudfront-",
    "tailscale-",
    "ngrok-",
    "x-scheme",
    "surrogate-",
    "max-forwards",
];
/// Ends of names that cannot be registered in the public DNS, so that no page has one of them.
const PRIVATE_ENDS: [&str; 7] =
    [".localhost", ".internal", ".svc", ".cluster.local", ".lan", ".home.arpa", ".consul"];

/// The options about access.
#[derive(Clone)]
pub struct Rules {
    /// The values of `--api-token`, any of which is sufficient; empty: the local rule.
    pub tokens: ApiTokens,
    /// `--insecure-api`: anyone may publish; administration stays closed.
    pub insecure_publish: bool,
    /// There are keys for tokens of others: a requester that may not publish is asked for one.
    pub takes_tokens: bool,
    /// The channels that may be listened to without a credential.
    pub public_channels: ChannelPatterns,
    /// Whether `?token=` counts.
    pub query_tokens: bool,
    /// The cookie that counts as a token, if any.
    pub token_cookie: Option<String>,
}

impl Default for Rules {
    /// The rules without any option.
    fn default() -> Self {
        Self {
            tokens: ApiTokens::default(),
            insecure_publish: false,
            takes_tokens: false,
            public_channels: ChannelPatterns::all(),
            query_tokens: true,
            token_cookie: None,
        }
    }
}

impl std::fmt::Debug for Rules {
    /// Without the tokens: they must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rules")
            .field("tokens", &self.tokens.len())
            .field("insecure_publish", &self.insecure_publish)
            .finish_non_exhaustive()
    }
}

/// The right that a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Publish a message.
    Publish,
    /// Change the process, over an admin listener: `POST` of `/admin/drain`, `/admin/undrain`,
    /// `/admin/disconnect`.
    Administer,
    /// The same over a public listener.
    AdministerInPublic,
    /// Look at the admin routes of an admin listener.
    Look,
    /// The same over a public listener.
    LookInPublic,
}

/// The known facts about a request's sender.
#[derive(Clone, Copy, Debug)]
pub struct Requester<'a> {
    /// The other end of the connection.
    pub peer: PeerAddress,
    /// The client itself, for limits, rules and logs.
    pub client: ClientAddress,
    /// The owner of the connection.
    pub owner: Owner,
    /// The request's version.
    pub version: Version,
    /// The request's target.
    pub uri: &'a Uri,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// The tokens that it shows elsewhere than in `Authorization`, where the route takes them:
    /// browsers cannot set headers in a handshake.
    pub other_tokens: &'a [&'a [u8]],
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allowed,
    /// A token is set and was not given, or another was, or one where none of its kind is: 401.
    Unauthorized,
    /// No token is set and the local rule is not met: 403.
    Forbidden,
    /// No token is set, and without one this is allowed on the admin listener alone: 403.
    NotHere,
    /// The request names the admin listener by a name that a page from elsewhere may have: 403.
    ForeignName,
}

impl Rules {
    /// Whether the requester has `right`.
    #[must_use]
    pub fn judge(&self, right: Right, requester: &Requester<'_>) -> Verdict {
        let takes_credentials = !self.tokens.is_empty() || self.takes_tokens;
        match self.presented(requester) {
            Some(true) => return Verdict::Allowed,
            Some(false) if takes_credentials => return Verdict::Unauthorized,
            Some(false) | None => {}
        }
        let open = match right {
            Right::Publish => self.insecure_publish,
            Right::Look => !requester.uses_a_public_name(),
            Right::LookInPublic => requester.is_local(right),
            Right::Administer | Right::AdministerInPublic => false,
        };
        match self.tokens.is_empty() {
            _ if open => Verdict::Allowed,
            _ if right == Right::Look => Verdict::ForeignName,
            false => Verdict::Unauthorized,
            true if right == Right::AdministerInPublic => Verdict::NotHere,
            true if requester.is_local(right) => Verdict::Allowed,
            true if self.takes_tokens && right == Right::Publish => Verdict::Unauthorized,
            true => Verdict::Forbidden,
        }
    }

    /// The principal as which an authorised requester publishes. This differs from the right to
    /// publish, which everybody has with `--insecure-api`: a publication from a web page is a
    /// client's, as if it came over a WebSocket, even if the page is from this machine; browsers,
    /// and other programs that use fetch, say so in their headers.
    #[must_use]
    pub fn principal(&self, requester: &Requester<'_>) -> Principal {
        let is_local_program =
            || self.tokens.is_empty() && requester.is_local(Right::Publish) && !requester.fetches();
        if self.presented(requester) == Some(true) || is_local_program() {
            Principal::Api
        } else {
            Principal::Anonymous
        }
    }

    /// The class as which a client publishes, given the request of its handshake.
    #[must_use]
    pub fn class_of_client(&self, requester: &Requester<'_>) -> PublisherClass {
        match self.presented(requester) {
            Some(true) => PublisherClass::Api,
            _ => PublisherClass::Anonymous,
        }
    }

    /// Whether a token in the request is right; `None` if there is none. One that is another
    /// server's does no harm beside it.
    #[must_use]
    pub fn presented(&self, requester: &Requester<'_>) -> Option<bool> {
        let mut given = requester.shown_tokens().peekable();
        given.peek()?;
        // One after the other, and all: the time does not tell which fits.
        let fitting = given.filter(|given| self.tokens.have(given)).count();
        Some(fitting > 0)
    }
}

impl<'a> Requester<'a> {
    /// The tokens that it shows, in the order in which they are tried.
    pub(super) fn shown_tokens(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bearer().into_iter().chain(self.other_tokens.iter().copied())
    }

    fn bearer(&self) -> Option<&'a [u8]> {
        let value = self.headers.get(header::AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    }

    /// The local rule: the connection is from this machine and this user, and nothing in the
    /// request says that it is made for another client.
    fn is_local(&self, right: Right) -> bool {
        let is_ours = match self.owner {
            Owner::Us => true,
            Owner::Stranger => false,
            // Where the system can't be asked, headers open publishing and nothing else.
            Owner::Unknowable => right == Right::Publish && self.is_no_silent_proxy(),
        };
        is_ours && self.says_it_is_local()
    }

    fn says_it_is_local(&self) -> bool {
        let Some(host) = self.host() else { return false };
        self.peer.is_of_this_machine()
            && names_loopback(host)
            && !self.headers.keys().any(tells_of_a_proxy)
            && self.origin_is(host)
            && self.is_no_page_from_elsewhere(host)
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
        let is_own = origin.to_str().is_ok_and(|origin| is_of_host(origin, host));
        is_own && origins.next().is_none()
    }

    /// Whether no page of another origin is behind this, as far as the browser tells.
    fn is_no_page_from_elsewhere(&self, host: &str) -> bool {
        let is_of_host = |page: &str| {
            let (scheme, rest) = page.split_once("://").unwrap_or_default();
            is_of_host(&format!("{scheme}://{}", rest.split('/').next().unwrap_or_default()), host)
        };
        let mut sites = self.headers.get_all(FETCH_SITE).iter();
        let mut pages = self.headers.get_all(header::REFERER).iter();
        sites.all(|site| site == "same-origin" || site == "none")
            && pages.all(|page| page.to_str().is_ok_and(is_of_host))
    }

    /// Where nothing but the request can be looked at: it is as programs send it, or a page of our
    /// own does. A proxy that adds no header speaks HTTP/1.0 unless it is configured otherwise.
    fn is_no_silent_proxy(&self) -> bool {
        let is_browser = self.headers.keys().any(|name| name.as_str().starts_with("sec-"))
            || self.headers.contains_key(header::COOKIE);
        let shows_its_page =
            self.headers.contains_key(header::ORIGIN) || self.headers.contains_key(FETCH_SITE);
        self.version == Version::HTTP_11 && (!is_browser || shows_its_page)
    }

    /// Whether `Host` may be the name of a page that has made this name mean our machine (DNS
    /// rebinding). Programs that send no `Host` are no browsers.
    fn uses_a_public_name(&self) -> bool {
        if !self.headers.contains_key(header::HOST) {
            return false;
        }
        !self.host().is_some_and(is_private_name)
    }
}

/// Whether `host` itself served the page of this origin.
fn is_of_host(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let bare = |text: &str| text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase();
    bare(authority) == bare(host)
}

/// `localhost`, `127.0.0.0/8` or `[::1]`, with any port.
fn names_loopback(host: &str) -> bool {
    match name_of(host) {
        Some(Name::Address(address)) => address.is_loopback(),
        Some(Name::Text(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// An address, a name without a dot, or one that ends as names of private networks do.
fn is_private_name(host: &str) -> bool {
    match name_of(host) {
        Some(Name::Address(_)) => true,
        Some(Name::Text(name)) => {
            let name = name.to_ascii_lowercase();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            !name.is_empty() && name.chars().all(is_plain)
                || PRIVATE_ENDS.iter().any(|end| name.ends_with(end))
        }
        None => false,
    }
}

enum Name<'a> {
    Address(IpAddr),
    Text(&'a str),
}

/// The name in `host`, without the port.
fn name_of(host: &str) -> Option<Name<'_>> {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => (Name::Address(address.parse::<Ipv6Addr>().ok()?.into()), port),
        None => {
            let (text, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let address = text.parse::<Ipv4Addr>();
            (address.map_or(Name::Text(text), |address| Name::Address(address.into())), port)
        }
    };
    let is_port = match port.strip_prefix(':') {
        Some(digits) => digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    is_port.then_some(name)
}

/// Whether a header is one of a proxy's: by the words in its name, since new ones are made up.
fn tells_of_a_proxy(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name == "via"
        || IN_PROXIES_NAMES.iter().any(|word| name.contains(word))
        || PROXIES_NAMES.iter().any(|beginning| name.starts_with(beginning))
}

#[cfg(test)]
mod tests;
