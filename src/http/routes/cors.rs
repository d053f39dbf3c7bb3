//! Cross-origin requests (CORS): browsers' preflights before a page of another origin may talk to a
//! public listener, and the headers that the browser requires in each answer.
//!
//! A client that may listen at all may do so from any page of an allowed origin ([`Origins`]).
//! Publishing is different: a preflight for it is answered according to the right to publish, so
//! that a page without it never sends anything.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::http::{
    access::{Requester, Right, Rules, Verdict},
    answer::{self, Answer},
    origins::Origins,
    routes::access_denied::denied,
};

/// Headers that pages may send besides those that every page may.
const HEADERS_KNOWN: HeaderValue = HeaderValue::from_static(
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, Last-Event-ID, Pragma, \
     X-Requested-With",
);
/// Headers that pages may read besides those that every page may.
const HEADERS_SHOWN: HeaderValue =
    HeaderValue::from_static("ETag, Retry-After, WWW-Authenticate, Wsbcast-Position");
/// How long a browser need not ask again, seconds; rights may change with a restart.
const MAX_AGE_SECS: HeaderValue = HeaderValue::from_static("600");
/// All origins.
const EVERY_ORIGIN: HeaderValue = HeaderValue::from_static("*");
/// Answers differ by the origin that asks.
const ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Lets pages of allowed origins see an answer of a public route, errors above all: else a refusal
/// looks to them like a dead network. `headers` are the answer's, `asked` the request's.
pub(in crate::http) fn show(origins: &Origins, headers: &mut HeaderMap, asked: &HeaderMap) {
    let allowed = if origins.is_every() {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, EVERY_ORIGIN);
        asked.contains_key(header::ORIGIN)
    } else {
        // Also where it is absent: a cache must not show this answer to the next page.
        headers.append(header::VARY, ORIGIN);
        let sender = origins.listed_sender(asked);
        if let Some(origin) = sender {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            if origins.take_cookies() {
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
            }
        }
        sender.is_some()
    };
    if allowed {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HEADERS_SHOWN);
    }
}

/// The answer to a page of an origin that is not allowed; the page itself cannot read it.
pub(in crate::http) fn bad_origin() -> Answer {
    let hint = "pages of this origin may not use this server: --allowed-origins lists those that \
                may, each as scheme://host[:port]";
    answer::problem(StatusCode::FORBIDDEN, "bad_origin", hint)
}

/// The answer to OPTIONS, for a route that takes `allowed`.
pub(in crate::http) fn preflight(allowed: &[Method]) -> Answer {
    let names = allowed.iter().map(Method::as_str).chain(["OPTIONS"]).collect::<Vec<_>>();
    let methods = HeaderValue::try_from(names.join(", ")).expect("names of methods are text");
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    let all: [(HeaderName, HeaderValue); 4] = [
        (header::ALLOW, methods.clone()),
        (header::ACCESS_CONTROL_ALLOW_METHODS, methods),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS_KNOWN),
        (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECS),
    ];
    headers.extend(all);
    answer
}

/// The answer to a page that may not publish whatever it shows: no token is set, and it is from
/// elsewhere. A page that had its preflight refused learns from a GET, which needs none, why.
pub(in crate::http) fn refused_to_publish(
    rules: &Rules,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let verdict = rules.judge(Right::Publish, requester);
    let is_page = requester.headers.contains_key(header::ORIGIN);
    (is_page && verdict == Verdict::Forbidden).then(|| denied(verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::origins::Origin;

    fn shown(origins: &Origins, asking: &'static str) -> HeaderMap {
        let asked = HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(asking))]);
        let mut headers = HeaderMap::new();
        show(origins, &mut headers, &asked);
        headers
    }

    /// Only a listed origin is told that its cookies count, and only where they do.
    #[test]
    fn cookies_count_for_listed_origins_only() {
        let listed = Origins::listed([Origin::parse("https://a.example").unwrap()]);
        let told = |origins: &Origins, asking| {
            let headers = shown(origins, asking);
            let [allowed, cookies] =
                [header::ACCESS_CONTROL_ALLOW_ORIGIN, header::ACCESS_CONTROL_ALLOW_CREDENTIALS]
                    .map(|name| headers.get(name).map(|value| value.to_str().unwrap().to_owned()));
            (allowed, cookies)
        };
        let own = Some("https://a.example".to_owned());
        assert_eq!(told(&listed, "https://a.example"), (own.clone(), None));
        let listed = listed.with_cookies();
        assert_eq!(told(&listed, "https://a.example"), (own, Some("true".to_owned())));
        assert_eq!(told(&listed, "https://b.example"), (None, None));
        let every = Origins::default().with_cookies();
        assert_eq!(told(&every, "https://a.example"), (Some("*".to_owned()), None));
    }
}
