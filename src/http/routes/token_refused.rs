//! The answers to those whose token is missing, bad or not enough: RFC 6750 §3.
//!
//! Each says in JSON what to do about it, and never repeats what was shown.

use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::{
    http::answer::{self, Answer},
    limits,
    token::TokenError,
};

/// A right that is missing, with the channel that it is missing for.
#[derive(Serialize)]
struct Forbidden<'a> {
    error: &'static str,
    hint: &'a str,
    channel: &'a str,
}

/// 401: no token was shown where one is needed.
pub(in crate::http) fn unauthorized(hint: &str) -> Answer {
    let answer = answer::problem(StatusCode::UNAUTHORIZED, "unauthorized", hint);
    challenge(answer, "Bearer")
}

/// 401: the token that was shown is not good; 403: its bearer is kept out; or 503: nobody can say.
pub(in crate::http) fn bad_token(error: &TokenError) -> Answer {
    let (status, hint) = (StatusCode::UNAUTHORIZED, error.hint());
    if error.is_unavailable() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let answer = answer::problem(status, "keys_unavailable", &hint);
        return answer::retry_after(answer, limits::RETRY_AFTER_KEYS_SECS);
    }
    if error.is_kept_out() {
        return answer::problem(StatusCode::FORBIDDEN, "forbidden", &hint);
    }
    challenge(answer::problem(status, "bad_token", &hint), "Bearer error=\"invalid_token\"")
}

/// 403: the token does not cover `channel`.
pub(in crate::http) fn forbidden(channel: &str, hint: &str) -> Answer {
    let answer =
        answer::json(StatusCode::FORBIDDEN, &Forbidden { error: "forbidden", hint, channel });
    challenge(answer, "Bearer error=\"insufficient_scope\"")
}

fn challenge(mut answer: Answer, value: &'static str) -> Answer {
    answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(value));
    answer
}
