//! The type of a publication's body, by its `Content-Type`: a message, or a batch of them.
//!
//! Any type is accepted, since `curl -d` sends a misleading one: text unless declared otherwise. A
//! body is refused if it is certainly not a message as it is, and would reach all clients.

use http::{HeaderMap, header};

use crate::{spelling::letters_apart, ws::Kind};

/// The kind of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum BodyType {
    Message(Kind),
    Batch,
}

/// Names of the batch's type, without `x-` and hyphens: it was never registered.
const BATCHES: [&str; 4] = ["ndjson", "ldjson", "jsonl", "jsonlines"];
/// Words in the names of related types, whose bodies are, or may be, different.
const NEAR_BATCHES: [&str; 4] = ["ndjson", "jsonl", "jsonseq", "stream+json"];

/// The type of a body that comes with `headers`, or what to send instead.
pub(in crate::http) fn of(headers: &HeaderMap) -> Result<BodyType, &'static str> {
    let essence = essence(headers).to_ascii_lowercase();
    let (kind, subtype) = essence.split_once('/').unwrap_or((&essence, ""));
    let bare = subtype.strip_prefix("x-").unwrap_or(subtype).replace('-', "");
    let is_lines = matches!(kind, "application" | "text") && BATCHES.contains(&&*bare);
    let is_nearly = || {
        NEAR_BATCHES.iter().any(|name| bare.contains(name)) || letters_apart(&bare, BATCHES[0]) == 1
    };
    match (kind, subtype) {
        _ if is_lines => Ok(BodyType::Batch),
        ("application", "octet-stream") => Ok(BodyType::Message(Kind::Binary)),
        ("multipart", _) => {
            Err("a form of several parts is no message: send the message as the body (curl -d, \
             --data-binary @FILE)")
        }
        _ if is_nearly() => Err(
            "is application/x-ndjson meant? A message is sent as text/plain or application/json",
        ),
        _ => Ok(BodyType::Message(Kind::Text)),
    }
}

/// The Content-Type without its parameters.
pub(in crate::http) fn essence(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.and_then(|value| value.split(';').next()).map_or("", str::trim)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn body_type(value: &str) -> Result<BodyType, &'static str> {
        let value = HeaderValue::from_str(value).unwrap();
        of(&HeaderMap::from_iter([(header::CONTENT_TYPE, value)]))
    }

    /// A batch has many names, and a name close to one reaches no client.
    #[test]
    fn nearly_a_batch_is_not_published() {
        for batch in [
            "application/x-ndjson",
            "application/ndjson",
            "Application/JSONL; charset=utf-8",
            "application/x-jsonlines",
            "application/json-lines",
            "text/x-ndjson",
            "text/jsonl",
        ] {
            assert_eq!(body_type(batch), Ok(BodyType::Batch), "{batch}");
        }
        for nearly in [
            "application/x-njson",
            "application/ndjsn",
            "application/vnd.api+ndjson",
            "application/x-ndjsons",
            "application/json-seq",
            "application/stream+json",
            "model/jsonl",
        ] {
            let hint = body_type(nearly).unwrap_err();
            assert!(hint.contains("application/x-ndjson"), "{nearly}: {hint}");
        }
        for parts in ["multipart/form-data; boundary=x", "multipart/mixed"] {
            assert!(body_type(parts).unwrap_err().contains("several parts"), "{parts}");
        }
    }

    #[test]
    fn every_other_type_is_a_message() {
        for text in [
            "",
            "text/plain",
            "application/json",
            "application/x-www-form-urlencoded",
            "application/json5",
            "application/bson",
            "application/hjson",
            "application/geo+json",
            "image/png",
            "nonsense",
        ] {
            assert_eq!(body_type(text), Ok(BodyType::Message(Kind::Text)), "{text}");
        }
        assert_eq!(body_type("application/octet-stream"), Ok(BodyType::Message(Kind::Binary)));
        assert_eq!(of(&HeaderMap::new()), Ok(BodyType::Message(Kind::Text)));
    }
}
