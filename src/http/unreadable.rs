//! The answer to a head that hyper cannot read: an error like all others.
//!
//! hyper answers such a head by itself, before any of our code sees it, and without a word. Its
//! bytes are taken away on their way to the stream (`connection::state`), which leaves a status,
//! and this goes out in their place. It is the connection's last answer: it is unknown where the
//! next request would begin. A page may read it as it may read others: its `Origin` is looked for
//! in what hyper has left of the head. That is all of it where a page can be at fault (too many
//! fields, too long ones); a head that is split up already, and wrong in its length, is no page's.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::{
    http::{
        answer::{self, Answer},
        origins::Origins,
        routes::cors,
    },
    limits::{HTTP_HEAD_BYTES_MAX, HTTP_HEADERS_MAX},
};

/// The whole answer to what failed with `error`, and which hyper has answered with `status`;
/// `None`: nothing was asked for. `origins`: those of a public listener. `head`: what is there of
/// the head.
pub(super) fn answer(
    error: &hyper::Error,
    status: Option<StatusCode>,
    origins: Option<&Origins>,
    head: &[u8],
    unix_time: Duration,
) -> Option<Vec<u8>> {
    let status = match status {
        Some(status) => status,
        // To what begins as HTTP/2 hyper says nothing.
        None if error.is_parse_version_h2() => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        None => return None,
    };
    let mut answer = match status {
        StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            answer::problem(status, "unsupported_version", "HTTP/1.1 is spoken here")
        }
        StatusCode::URI_TOO_LONG | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            let most = HTTP_HEAD_BYTES_MAX / 1024;
            let hint =
                format!("a target and headers take {most} KiB and {HTTP_HEADERS_MAX} fields");
            answer::problem(status, "head_too_large", &hint)
        }
        _ => {
            let hint = format!("this is no request of HTTP/1.1 (without TLS): {error}");
            answer::problem(status, "bad_request", &hint)
        }
    };
    answer::close(&mut answer);
    if let Some(origins) = origins {
        cors::show(origins, answer.headers_mut(), &origins_in(head));
    }
    Some(written(&answer, unix_time))
}

/// Each `Origin` in a head, or in its beginning: a line without its end may go on elsewhere.
fn origins_in(head: &[u8]) -> HeaderMap {
    let lines = head.split_inclusive(|&byte| byte == b'\n').skip(1);
    let fields = lines.map_while(|line| {
        let line = line.strip_suffix(b"\n")?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        (!line.is_empty()).then_some(line)
    });
    let origins = fields.filter_map(|field| {
        let (name, value) = field.split_at_checked(b"origin:".len())?;
        let is_origin = name.eq_ignore_ascii_case(b"origin:");
        HeaderValue::from_bytes(value.trim_ascii()).ok().filter(|_| is_origin)
    });
    let mut headers = HeaderMap::new();
    for origin in origins {
        headers.append(header::ORIGIN, origin);
    }
    headers
}

fn written(answer: &Answer, unix_time: Duration) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {}\r\n", answer.status());
    let mut put = |name: &str, value: &str| {
        write!(head, "{name}: {value}\r\n").expect("memory takes everything");
    };
    for (name, value) in answer.headers() {
        put(name.as_str(), value.to_str().expect("it was made of text"));
    }
    put(header::CONTENT_LENGTH.as_str(), &answer.body().len().to_string());
    put(header::DATE.as_str(), &answer::date(unix_time));
    head.push_str("\r\n");
    [head.as_bytes(), answer.body()].concat()
}
