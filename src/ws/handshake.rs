//! The rules of the opening handshake: RFC 6455 §4.2.1.
//!
//! They look at a request's head and say how to answer it; they write no response and know no
//! route, channel or origin. List headers (`Connection`, `Upgrade`) may come in several lines and
//! in any case; a header that is required once must be there exactly once.

use http::{HeaderMap, HeaderName, Method, Version, header};
use thiserror::Error;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// The only version of the protocol, in the form of `Sec-WebSocket-Version`.
pub const VERSION: &str = "13";

/// The subprotocol with events as JSON.
pub const V1: &str = "wsbcast.v1";
/// The subprotocol of messages as they are: as without one, for clients that must offer one.
pub const PLAIN: &str = "wsbcast.plain";
/// Begins an entry of the offer that is a token and no subprotocol.
const TOKEN_PREFIX: &[u8] = b"wsbcast.token.";

/// A key is the base64 of 16 bytes: 22 characters and two of padding.
const KEY_CHARACTERS: usize = 22;

/// The request may be upgraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The answer's `Sec-WebSocket-Accept`.
    pub accept_key: String,
}

/// The request may not be upgraded.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum HandshakeRefusal {
    /// No upgrade to WebSocket is asked for: 426 with `Upgrade: websocket`.
    #[error("this is a WebSocket endpoint")]
    NotUpgrade,
    /// Not version 13: 426 with `Sec-WebSocket-Version: 13`.
    #[error("only WebSocket version 13 is spoken here")]
    WrongVersion,
    /// A rule is broken: 400; the text says which.
    #[error("{0}")]
    Bad(&'static str),
}

/// Checks the head of a request for an upgrade.
///
/// # Errors
/// The refusal to answer with.
pub fn check(
    method: &Method,
    version: Version,
    headers: &HeaderMap,
) -> Result<Accept, HandshakeRefusal> {
    check_upgrade(headers)?;
    if version != Version::HTTP_11 {
        return Err(HandshakeRefusal::Bad("a WebSocket handshake needs HTTP/1.1"));
    }
    if method != Method::GET {
        return Err(HandshakeRefusal::Bad("a WebSocket handshake is a GET"));
    }
    check_version(headers)?;
    check_host(headers)?;
    check_no_body(headers)?;
    Ok(Accept { accept_key: derive_accept_key(key(headers)?) })
}

/// Both headers ask for an upgrade, or neither does; one alone is a contradiction. A lone
/// `Sec-WebSocket-Key` does not ask: proxies that are not configured for WebSocket forward it
/// without the other two, and 426 describes best what is missing.
fn check_upgrade(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    let websocket = lists(headers, header::UPGRADE, "websocket");
    let connection = lists(headers, header::CONNECTION, "upgrade");
    match (websocket, connection) {
        (true, true) => Ok(()),
        (true, false) => Err(HandshakeRefusal::Bad("Connection does not list Upgrade")),
        (false, true) if !headers.contains_key(header::UPGRADE) => {
            Err(HandshakeRefusal::Bad("Connection lists Upgrade, but there is no Upgrade header"))
        }
        (false, _) => Err(HandshakeRefusal::NotUpgrade),
    }
}

/// A missing version counts as a wrong one: the answer names the right one.
fn check_version(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    match once(headers, header::SEC_WEBSOCKET_VERSION) {
        Some(Once::Value(version)) if version == VERSION.as_bytes() => Ok(()),
        Some(Once::Repeated) => {
            Err(HandshakeRefusal::Bad("Sec-WebSocket-Version stands more than once"))
        }
        _ => Err(HandshakeRefusal::WrongVersion),
    }
}

fn check_host(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    match once(headers, header::HOST) {
        Some(Once::Value(host)) if !host.is_empty() => Ok(()),
        Some(Once::Repeated) => Err(HandshakeRefusal::Bad("Host stands more than once")),
        _ => Err(HandshakeRefusal::Bad("Host is missing")),
    }
}

/// The bytes of a body would be taken for frames.
fn check_no_body(headers: &HeaderMap) -> Result<(), HandshakeRefusal> {
    let empty = |length: &[u8]| !length.is_empty() && length.iter().all(|&byte| byte == b'0');
    let some_length = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .any(|length| !empty(length.as_bytes().trim_ascii()));
    if some_length || headers.contains_key(header::TRANSFER_ENCODING) {
        return Err(HandshakeRefusal::Bad("a WebSocket handshake has no body"));
    }
    Ok(())
}

/// The client's key, verified to be the base64 of 16 bytes. The four bits of padding in the last
/// character need not be 0, as the server has no use for them.
fn key(headers: &HeaderMap) -> Result<&[u8], HandshakeRefusal> {
    let key = match once(headers, header::SEC_WEBSOCKET_KEY) {
        Some(Once::Value(key)) => key,
        Some(Once::Repeated) => {
            return Err(HandshakeRefusal::Bad("Sec-WebSocket-Key stands more than once"));
        }
        None => return Err(HandshakeRefusal::Bad("Sec-WebSocket-Key is missing")),
    };
    let is_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    match key.split_at_checked(KEY_CHARACTERS) {
        Some((characters, b"==")) if characters.iter().all(is_base64) => Ok(key),
        _ => Err(HandshakeRefusal::Bad("Sec-WebSocket-Key is not the base64 of 16 bytes")),
    }
}

/// The first subprotocol of the client's offer that is one of `known`: clients name first what they
/// like best. Names are case-sensitive, and may come in one line or several.
#[must_use]
pub fn chosen_protocol(headers: &HeaderMap, known: &[&'static str]) -> Option<&'static str> {
    let mut offered = items(headers, header::SEC_WEBSOCKET_PROTOCOL);
    offered.find_map(|item| known.iter().copied().find(|name| item == name.as_bytes()))
}

/// The tokens among the client's offer of subprotocols.
pub fn offered_tokens(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let offered = items(headers, header::SEC_WEBSOCKET_PROTOCOL);
    offered.filter_map(|item| item.strip_prefix(TOKEN_PREFIX))
}

enum Once<'a> {
    Value(&'a [u8]),
    Repeated,
}

fn once(headers: &HeaderMap, name: HeaderName) -> Option<Once<'_>> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    Some(match values.next() {
        None => Once::Value(value.as_bytes().trim_ascii()),
        Some(_) => Once::Repeated,
    })
}

/// Whether `token` is in the comma-separated list, over all its lines, in any case.
fn lists(headers: &HeaderMap, name: HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
}

/// The items of a comma-separated list, over all its lines.
fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    let items = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    items.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// The RFC's own example (§1.3).
    const GOOD: &[(&str, &str)] = &[
        ("host", "server.example.com"),
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
    ];

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        headers
    }

    /// The verdict on the good request with `name`'s lines replaced by `values`.
    fn with(name: &str, values: &[&str]) -> Result<Accept, HandshakeRefusal> {
        let mut headers = headers(GOOD);
        headers.remove(name);
        for value in values {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        check(&Method::GET, Version::HTTP_11, &headers)
    }

    #[test]
    fn the_rfcs_example_is_accepted_with_the_rfcs_answer() {
        let accept = check(&Method::GET, Version::HTTP_11, &headers(GOOD)).unwrap();
        assert_eq!(accept.accept_key, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    /// List headers may be long in several lines and in any case.
    #[test]
    fn list_headers_may_be_long() {
        assert!(with("connection", &["keep-alive, Upgrade"]).is_ok());
        assert!(with("connection", &["keep-alive", "UPGRADE"]).is_ok());
        assert!(with("connection", &["keep-alive ,,\tupgrade "]).is_ok());
        assert!(with("upgrade", &["WebSocket"]).is_ok());
        assert!(with("upgrade", &["h2c, websocket"]).is_ok());
        assert!(with("upgrade", &["h2c", "WEBSOCKET"]).is_ok());
    }

    /// A subprotocol is found in any line and place by its exact name.
    #[test]
    fn a_subprotocol_is_found_by_its_exact_name() {
        let offers = |lines: &[&str]| {
            let lines: Vec<_> =
                lines.iter().map(|line| ("sec-websocket-protocol", *line)).collect();
            chosen_protocol(&headers(&lines), &[V1]) == Some(V1)
        };
        for lines in [&["wsbcast.v1"] as &[&str], &["a , wsbcast.v1,b"], &["a", "b", "wsbcast.v1"]]
        {
            assert!(offers(lines), "{lines:?}");
        }
        for lines in [&[] as &[&str], &[""], &["wsbcast.v2"], &["WSBCAST.v1"], &["a wsbcast.v1"]] {
            assert!(!offers(lines), "{lines:?}");
        }
    }

    /// The first entry is liked best, and tokens are no subprotocols.
    #[test]
    fn the_clients_order_decides_and_tokens_are_apart() {
        let chosen = |line| {
            let headers = headers(&[("sec-websocket-protocol", line)]);
            let tokens = offered_tokens(&headers).map(<[u8]>::to_vec).collect::<Vec<_>>();
            (chosen_protocol(&headers, &[V1, PLAIN]), tokens)
        };
        assert_eq!(chosen("wsbcast.plain, wsbcast.v1"), (Some(PLAIN), vec![]));
        assert_eq!(chosen("mqtt, wsbcast.v1, wsbcast.plain"), (Some(V1), vec![]));
        let token = vec![b"a.b-c_d.e".to_vec()];
        assert_eq!(chosen("wsbcast.token.a.b-c_d.e,wsbcast.v1"), (Some(V1), token.clone()));
        assert_eq!(chosen("wsbcast.token.a.b-c_d.e"), (None, token));
    }

    #[test]
    fn requests_for_no_websocket_are_told_to_upgrade() {
        let plain = headers(&[("host", "a")]);
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(check(&Method::GET, version, &plain), Err(HandshakeRefusal::NotUpgrade));
        }
        assert_eq!(with("upgrade", &["h2c"]), Err(HandshakeRefusal::NotUpgrade));
        assert_eq!(with("upgrade", &["websocket2"]), Err(HandshakeRefusal::NotUpgrade));
        let proxied = headers(&[
            ("host", "a"),
            ("connection", "close"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-version", "13"),
        ]);
        assert_eq!(
            check(&Method::GET, Version::HTTP_10, &proxied),
            Err(HandshakeRefusal::NotUpgrade)
        );
    }

    #[test]
    fn headers_that_contradict_each_other_are_bad() {
        assert!(matches!(with("upgrade", &[]), Err(HandshakeRefusal::Bad(_))));
        assert!(matches!(with("connection", &[]), Err(HandshakeRefusal::Bad(_))));
        assert!(matches!(with("connection", &["keep-alive"]), Err(HandshakeRefusal::Bad(_))));
        assert!(matches!(with("connection", &["upgraded"]), Err(HandshakeRefusal::Bad(_))));
    }

    #[test]
    fn another_version_or_none_is_told_the_right_one() {
        for values in [&[] as &[&str], &["8"], &["14"], &["013"], &["13, 8"], &[""], &["x"]] {
            assert_eq!(with("sec-websocket-version", values), Err(HandshakeRefusal::WrongVersion));
        }
        assert!(matches!(
            with("sec-websocket-version", &["13", "8"]),
            Err(HandshakeRefusal::Bad(_))
        ));
        assert!(matches!(
            with("sec-websocket-version", &["13", "13"]),
            Err(HandshakeRefusal::Bad(_))
        ));
    }

    #[test]
    fn a_key_is_one_base64_of_sixteen_bytes() {
        let good = "dGhlIHNhbXBsZSBub25jZQ==";
        for key in
            ["AAAAAAAAAAAAAAAAAAAAAA==", "+/+/+/+/+/+/+/+/+/+/+w==", " x3JJHMbDL1EzLkh9GBhXDw== "]
        {
            assert!(with("sec-websocket-key", &[key]).is_ok(), "{key}");
        }
        let bad: [&[&str]; 9] = [
            &[],
            &[""],
            &[good, good],
            &["SGVsbG8sIHdvcmxkIQ=="],
            &["dGhlIHNhbXBsZSBub25jZQ"],
            &["dGhlIHNhbXBsZSBub25jZQ=a"],
            &["dGhlIHNhbXBsZSBub25jZQ==="],
            &["dGhlIHNhbXBsZSBub25j-_=="],
            &["AAAAAAAAAAAAAAAAAAAAAAA="],
        ];
        for values in bad {
            let verdict = with("sec-websocket-key", values);
            assert!(matches!(verdict, Err(HandshakeRefusal::Bad(_))), "{values:?}: {verdict:?}");
        }
    }

    #[test]
    fn host_stands_exactly_once_and_is_not_empty() {
        for values in [&[] as &[&str], &[""], &["a", "a"]] {
            assert!(matches!(with("host", values), Err(HandshakeRefusal::Bad(_))), "{values:?}");
        }
    }

    #[test]
    fn a_handshake_has_no_body() {
        assert!(with("content-length", &["0"]).is_ok());
        for length in ["1", "00012", "", "-0", "0, 5"] {
            assert!(
                matches!(with("content-length", &[length]), Err(HandshakeRefusal::Bad(_))),
                "{length}"
            );
        }
        assert!(matches!(with("transfer-encoding", &["chunked"]), Err(HandshakeRefusal::Bad(_))));
    }

    #[test]
    fn only_a_get_over_http_1_1_is_a_handshake() {
        for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
            let verdict = check(&Method::GET, version, &headers(GOOD));
            assert!(matches!(verdict, Err(HandshakeRefusal::Bad(_))), "{version:?}");
        }
        for method in [Method::POST, Method::HEAD, Method::OPTIONS] {
            let verdict = check(&method, Version::HTTP_11, &headers(GOOD));
            assert!(matches!(verdict, Err(HandshakeRefusal::Bad(_))), "{method}");
        }
    }
}
