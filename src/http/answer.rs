//! How answers are made: a status, JSON or text, and the few headers of ours.
//!
//! All errors have one form: `{"error":"…","hint":"…"}`, the first a fixed word in snake_case to
//! match on (the same word as the reason in the metrics), the second advice on what to do. Answers
//! are wrapped in a body that notices when hyper has taken it.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use crate::limits::HINT_CHARS_MAX;

/// An answer before it is sent.
pub(super) type Answer = Response<Bytes>;

/// An error as it is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Problem<'a> {
    pub(super) error: &'a str,
    pub(super) hint: &'a str,
}

/// A JSON answer, with a newline at its end for terminals.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut text =
        serde_json::to_vec(value).expect("answers are plain structs, which always encode");
    text.push(b'\n');
    json_text(status, text)
}

/// A JSON answer of a text that is JSON already, and a line.
pub(super) fn json_text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    typed(status, "application/json", text)
}

/// An error's answer. A hint may quote what a stranger wrote, so it has an end.
pub(super) fn problem(status: StatusCode, error: &str, hint: &str) -> Answer {
    let end = hint.char_indices().nth(HINT_CHARS_MAX).map(|(end, _)| end);
    let cut = end.map(|end| format!("{}…", &hint[..end]));
    json(status, &Problem { error, hint: cut.as_deref().unwrap_or(hint) })
}

/// An answer of any type.
pub(super) fn typed(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Answer {
    let mut answer = Response::new(body.into());
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    // Every answer is about this moment, so no cache in between may keep it.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// Adds `Retry-After`.
pub(super) fn retry_after(mut answer: Answer, seconds: u32) -> Answer {
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}

/// Says that this is the connection's last answer; hyper acts on the header.
pub(super) fn close(answer: &mut Answer) {
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
}

/// A time as HTTP writes it.
pub(super) fn date(unix_time: Duration) -> String {
    httpdate::fmt_http_date(UNIX_EPOCH + unix_time)
}
