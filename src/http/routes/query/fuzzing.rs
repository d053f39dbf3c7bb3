//! Properties of queries.

use std::{collections::HashSet, fmt::Write as _};

use super::{
    BadQuery, Mistake, event_stream, nearly_known, one_channel, takes_only, token, wanted,
};
use crate::{
    broker::Since,
    conn::SubscribeRequest,
    limits::{CHANNEL_NAME_BYTES_MAX, CHANNELS_PER_CLIENT_MAX},
};

/// The request is within the bounds, and is read again from a query that says the same; and a query
/// means the same with each of its characters encoded.
pub(crate) fn queries(input: &[u8]) {
    let Ok(query) = str::from_utf8(input) else { return };
    let read = wanted(Some(query));
    if let Ok(wanted_now) = &read {
        check(wanted_now);
        let again = wanted(Some(&written(wanted_now))).expect("it says the same");
        assert_eq!(&again, wanted_now);
    }
    if !query.contains('%') {
        let encoded = encoded(query);
        assert_eq!(brief(wanted(Some(&encoded))), brief(read), "{encoded}");
        assert_eq!(brief(one_channel(Some(&encoded))), brief(one_channel(Some(query))));
        assert_eq!(brief(token(Some(&encoded))), brief(token(Some(query))));
        assert_eq!(brief(nearly_known(Some(&encoded))), brief(nearly_known(Some(query))));
    }
    if takes_only(Some(query), &["channel"]).is_ok() {
        assert!(nearly_known(Some(query)).is_ok_and(|ignored| ignored.is_empty()), "{query}");
    }
    let (query, last_id) = query.split_once('\n').unwrap_or((query, ""));
    if let Ok(one) = event_stream(Some(query), last_id.as_bytes()) {
        check(std::slice::from_ref(&one));
        let given = last_id.parse().ok().map(Since::After);
        assert!(last_id.is_empty() || one.since == given, "{last_id:?}");
    }
}

fn brief<T>(read: Result<T, BadQuery>) -> Result<T, Mistake> {
    read.map_err(|refused| refused.mistake)
}

fn check(wanted: &[SubscribeRequest]) {
    assert!((1..=CHANNELS_PER_CLIENT_MAX).contains(&wanted.len()), "{}", wanted.len());
    let names: HashSet<&str> = wanted.iter().map(|one| one.channel.as_str()).collect();
    assert_eq!(names.len(), wanted.len(), "a channel stands there twice");
    assert!(names.iter().all(|name| (1..=CHANNEL_NAME_BYTES_MAX).contains(&name.len())));
}

/// The query that asks for this.
fn written(wanted: &[SubscribeRequest]) -> String {
    let mut query = String::new();
    let mut last = None;
    for SubscribeRequest { channel, since } in wanted {
        let since = match since {
            Some(Since::After(position)) => position.to_string(),
            Some(Since::Newest(count)) => {
                last = Some(*count);
                String::new()
            }
            None => String::new(),
        };
        write!(query, "channel={channel}&since={since}&").expect("memory takes it");
    }
    if let Some(last) = last {
        write!(query, "last={last}").expect("memory takes it");
    }
    query
}

/// The query with each character of names and values as `%XX`.
fn encoded(query: &str) -> String {
    let all = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let pair = |pair: &str| match pair.split_once('=') {
        Some((name, value)) => format!("{}={}", all(name), all(value)),
        None => all(pair),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}
