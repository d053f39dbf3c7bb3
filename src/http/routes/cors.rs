//! Cross-origin requests (CORS): browsers' preflights before a page of another origin may talk to a
//! public listener, and the headers that the browser requires in each answer.
//!
//! A client that may listen at all may do so from any page. Publishing is different: a preflight
//! for it is answered according to the right to publish, so that a page without it never sends
//! anything.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::http::{
    access::{Requester, Right, Rules, Verdict},
    answer::Answer,
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

/// Lets pages of every origin see an answer of a public route, errors above all: else a refusal
/// looks to them like a dead network.
pub(in crate::http) fn show(answer: &mut Answer, asked: &HeaderMap) {
    let headers = answer.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, EVERY_ORIGIN);
    if asked.contains_key(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HEADERS_SHOWN);
    }
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
