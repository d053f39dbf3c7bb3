//! The hops that `X-Forwarded-For` and `Forwarded` name, from the nearest one on.
//!
//! Both are read from the right, since only what trusted proxies have added there is well-formed;
//! what a client wrote further left may be anything, and is not looked at unless it is reached. The
//! work is linear in the bytes that are looked at.

use std::net::{IpAddr, Ipv6Addr};

use crate::peer::ClientAddress;

/// A hop; `None`: it is not told, or what is told is no address.
type Hop = Option<ClientAddress>;

/// The hops of `X-Forwarded-For`, a list of addresses.
pub(super) struct ForwardedFor<'a, L> {
    lines: L,
    line: Option<&'a [u8]>,
}

impl<'a, L: DoubleEndedIterator<Item = &'a [u8]>> ForwardedFor<'a, L> {
    pub(super) fn new(lines: L) -> Self {
        Self { lines, line: None }
    }
}

impl<'a, L: DoubleEndedIterator<Item = &'a [u8]>> Iterator for ForwardedFor<'a, L> {
    type Item = Hop;

    fn next(&mut self) -> Option<Hop> {
        let line = self.line.take().or_else(|| self.lines.next_back())?;
        let element = match line.iter().rposition(|byte| *byte == b',') {
            Some(comma) => {
                self.line = Some(&line[..comma]);
                &line[comma + 1..]
            }
            None => line,
        };
        Some(node(element.trim_ascii()))
    }
}

/// The hops of `Forwarded` (RFC 7239 §4), a list of parameters, some of them quoted.
pub(super) struct Forwarded<'a, L> {
    lines: L,
    line: Option<&'a [u8]>,
}

impl<'a, L: DoubleEndedIterator<Item = &'a [u8]>> Forwarded<'a, L> {
    pub(super) fn new(lines: L) -> Self {
        Self { lines, line: None }
    }
}

impl<'a, L: DoubleEndedIterator<Item = &'a [u8]>> Iterator for Forwarded<'a, L> {
    type Item = Hop;

    fn next(&mut self) -> Option<Hop> {
        let line = self.line.take().or_else(|| self.lines.next_back())?;
        // Each parameter ends at the one after it, and the element at a comma.
        let mut rest = line;
        let mut told = None;
        let mut is_clear = true;
        loop {
            let cut = last_separator(rest);
            let parameter = cut.map_or(rest, |at| &rest[at + 1..]);
            if let Some(value) = value_of_for(parameter.trim_ascii()) {
                // A proxy tells it once.
                is_clear &= told.replace(value).is_none();
            }
            match cut {
                Some(at) if rest[at] == b';' => rest = &rest[..at],
                Some(at) => {
                    self.line = Some(&rest[..at]);
                    break;
                }
                None => break,
            }
        }
        Some(told.filter(|_| is_clear).and_then(unquoted_node))
    }
}

/// The place of the last `,` or `;` outside of quotes. Where quotes are not closed there is none.
fn last_separator(text: &[u8]) -> Option<usize> {
    let mut end = text.len();
    loop {
        let at = text[..end].iter().rposition(|byte| b",;\"".contains(byte))?;
        if text[at] != b'"' {
            return Some(at);
        }
        end = opening_quote(text, at)?;
    }
}

/// The place of the quote that belongs to the closing one at `closing`: the last one before it that
/// is not escaped.
fn opening_quote(text: &[u8], closing: usize) -> Option<usize> {
    let mut end = closing;
    loop {
        let quote = text[..end].iter().rposition(|byte| *byte == b'"')?;
        let escapes = text[..quote].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escapes % 2 == 0 {
            return Some(quote);
        }
        end = quote;
    }
}

/// The value, if `parameter` is `for=VALUE`; its name is in any case.
fn value_of_for(parameter: &[u8]) -> Option<&[u8]> {
    let (name, value) = parameter.split_at_checked(4)?;
    name.eq_ignore_ascii_case(b"for=").then_some(value)
}

/// A node, in quotes if it has a colon. An address needs no escapes, so one with them is none.
fn unquoted_node(text: &[u8]) -> Hop {
    match text.strip_prefix(b"\"") {
        Some(rest) => node(rest.strip_suffix(b"\"")?),
        None => node(text),
    }
}

/// An address, with or without a port (RFC 7239 §6). `unknown` and obfuscated names (`_x`) are
/// none.
fn node(text: &[u8]) -> Hop {
    let text = std::str::from_utf8(text).ok()?;
    let (address, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (IpAddr::from(address.parse::<Ipv6Addr>().ok()?), rest)
        }
        // A bare IPv6 address has colons of its own.
        None => match text.parse::<IpAddr>() {
            Ok(address) => (address, ""),
            Err(_) => {
                let (address, _) = text.split_once(':')?;
                (IpAddr::V4(address.parse().ok()?), &text[address.len()..])
            }
        },
    };
    is_port(rest).then(|| address.into())
}

/// Nothing, or a port; a proxy may write an obfuscated one, `_x` (RFC 7239 §6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(port) => {
            let is_name = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
            let is_obfuscated =
                |port: &str| port.strip_prefix('_').is_some_and(|name| name.bytes().all(is_name));
            let is_number = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            !port.is_empty() && (is_number || is_obfuscated(port))
        }
        None => text.is_empty(),
    }
}
