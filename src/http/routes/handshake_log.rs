//! Log lines at `debug` about handshakes and streams: accepted, or refused and why.
//!
//! Strangers write much of it, so every field of theirs is quoted and bounded, and nothing is put
//! together unless the line is wanted. A line's peer is the one of the client's own lines.

use http::HeaderMap;
use tracing::debug;

use crate::{
    broker::Position,
    channel::ChannelName,
    conn::clients_are_logged,
    http::{access::Requester, answer::Answer, routes::position},
    limits::{CHANNELS_NAMED, QUOTED_CHARS_MAX},
};

/// Proxies name the client they speak for in one of these. The first is the one that proxies are
/// usually configured to write, while a client's own `Forwarded` often passes them unchanged.
const FORWARDED: [&str; 2] = ["x-forwarded-for", "forwarded"];

/// A client is accepted. Returns the client that it is said to speak for, for the client's own
/// lines.
pub(in crate::http) fn accepted(
    requester: &Requester<'_>,
    positions: &[(ChannelName, Position)],
) -> Option<Box<str>> {
    if !clients_are_logged() {
        return None;
    }
    let forwarded = forwarded(requester.headers);
    let known = position::value(&positions[..positions.len().min(CHANNELS_NAMED)]);
    debug!(
        peer = %requester.peer,
        forwarded_unverified = forwarded.as_deref(),
        path = requester.uri.path(),
        positions = known.as_ref().and_then(|known| known.to_str().ok()),
        "handshake accepted"
    );
    forwarded
}

/// Some of its parameters were not understood.
pub(in crate::http) fn ignored(requester: &Requester<'_>, names: &[String]) {
    if !clients_are_logged() {
        return;
    }
    let names: String = names.join(", ").chars().take(QUOTED_CHARS_MAX).collect();
    debug!(peer = %requester.peer, parameters = names, "unknown parameters ignored");
}

/// A client is refused for `reason`.
pub(in crate::http) fn refused(requester: &Requester<'_>, reason: &str, answer: &Answer) {
    if !clients_are_logged() {
        return;
    }
    debug!(
        peer = %requester.peer,
        forwarded_unverified = forwarded(requester.headers).as_deref(),
        reason,
        answer = String::from_utf8_lossy(answer.body()).trim_end(),
        "handshake refused"
    );
}

/// The client that a proxy names, unverified: anyone may write it. If it is too long, the end is
/// kept, since the nearest proxy writes last.
pub(in crate::http) fn forwarded(headers: &HeaderMap) -> Option<Box<str>> {
    let name = FORWARDED.iter().find(|name| headers.contains_key(**name))?;
    let told = headers.get_all(*name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let told = told.collect::<Vec<_>>().join(", ");
    let cut = told.char_indices().rev().nth(QUOTED_CHARS_MAX - 1).map_or(0, |(index, _)| index);
    Some(if cut == 0 { told.into() } else { format!("…{}", &told[cut..]).into() })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    type Lines<'a> = &'a [(&'a str, &'a [u8])];

    fn told(lines: Lines<'_>) -> Option<String> {
        let value = |told| HeaderValue::from_bytes(told).unwrap();
        let lines = lines.iter().map(|(name, told)| (name.parse().unwrap(), value(told)));
        forwarded(&HeaderMap::from_iter(lines)).map(Into::into)
    }

    /// The address that a proxy speaks for is told as it was said, and bounded.
    #[test]
    fn a_forwarded_address_is_logged_and_bounded() {
        let long = "1, ".repeat(3_000) + "192.0.2.9";
        let table: [(Lines<'_>, Option<&str>); 5] = [
            (&[("x-real-ip", b"192.0.2.1")], None),
            (&[("x-forwarded-for", b"192.0.2.7")], Some("192.0.2.7")),
            (&[("forwarded", b"for=\"[2001:db8::1]\"")], Some("for=\"[2001:db8::1]\"")),
            (
                &[("forwarded", b"for=me"), ("x-forwarded-for", b"a"), ("x-forwarded-for", b"b")],
                Some("a, b"),
            ),
            (&[("x-forwarded-for", b"\xff\xfe")], Some("\u{fffd}\u{fffd}")),
        ];
        for (lines, expected) in table {
            assert_eq!(told(lines).as_deref(), expected, "{lines:?}");
        }
        let cut = told(&[("x-forwarded-for", long.as_bytes())]).unwrap();
        assert!(cut.starts_with('…') && cut.ends_with("1, 192.0.2.9"), "{cut}");
        assert_eq!(cut.chars().count(), QUOTED_CHARS_MAX + 1);
    }
}
