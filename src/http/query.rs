//! Reads the query of a request's target: `channel` and `token`; whatever else is there is ignored.

use std::borrow::Cow;

use crate::{channel::ChannelName, limits::CHANNELS_PER_CLIENT_MAX};

/// The query cannot be served; the text is the hint.
pub(super) type BadQuery = Cow<'static, str>;

/// The channels of a handshake, in order, without repetitions; the default channel if none.
pub(super) fn channels(query: Option<&str>) -> Result<Vec<ChannelName>, BadQuery> {
    let mut channels = Vec::with_capacity(1);
    for value in values(query, "channel") {
        let channel = channel(&value?)?;
        if !channels.contains(&channel) {
            if channels.len() == CHANNELS_PER_CLIENT_MAX {
                return Err(format!("at most {CHANNELS_PER_CLIENT_MAX} channels").into());
            }
            channels.push(channel);
        }
    }
    if channels.is_empty() {
        channels.push(ChannelName::default_channel());
    }
    Ok(channels)
}

/// The one channel of a publication; the default channel if none.
pub(super) fn one_channel(query: Option<&str>) -> Result<ChannelName, BadQuery> {
    let mut given = values(query, "channel");
    let Some(value) = given.next() else { return Ok(ChannelName::default_channel()) };
    match given.next() {
        None => channel(&value?),
        Some(_) => Err("name one channel; for several send application/x-ndjson".into()),
    }
}

/// The first `token`.
pub(super) fn token(query: Option<&str>) -> Result<Option<Cow<'_, str>>, BadQuery> {
    values(query, "token").next().transpose()
}

fn channel(text: &str) -> Result<ChannelName, BadQuery> {
    ChannelName::new(text).map_err(|error| error.to_string().into())
}

/// The decoded values of `name`.
fn values<'a>(
    query: Option<&'a str>,
    name: &'static str,
) -> impl Iterator<Item = Result<Cow<'a, str>, BadQuery>> {
    query.unwrap_or_default().split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let is_named = decode(key).is_some_and(|key| key == name);
        is_named.then(|| {
            decode(value).ok_or_else(|| format!("{name} is not percent-encoded UTF-8").into())
        })
    })
}

/// Undoes percent-encoding; `None` if it is broken or no UTF-8. A plus is a plus.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => hex_digit(rest.next()?)? * 16 + hex_digit(rest.next()?)?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(query: &str) -> Vec<String> {
        channels(Some(query)).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn channels_are_decoded_deduplicated_and_kept_in_order() {
        assert_eq!(names(""), ["notifications"]);
        assert_eq!(names("x=1&since=a:3"), ["notifications"]);
        assert_eq!(names("channel=b&channel=a&channel=b"), ["b", "a"]);
        assert_eq!(names("channel=a%3Ab&x=%zz&ch%61nnel=c"), ["a:b", "c"]);
    }

    #[test]
    fn bad_channels_are_refused() {
        for query in ["channel=", "channel", "channel=a%2", "channel=%ff", "channel=a+b"] {
            assert!(channels(Some(query)).is_err(), "{query}");
            assert!(one_channel(Some(query)).is_err(), "{query}");
        }
        let many: String =
            (0..=CHANNELS_PER_CLIENT_MAX).map(|n| format!("&channel=c{n}")).collect();
        assert!(channels(Some(&many)).is_err());
        assert!(channels(Some(&many[..many.rfind('&').unwrap()])).is_ok());
    }

    #[test]
    fn a_publication_names_one_channel() {
        assert_eq!(one_channel(None).unwrap().as_str(), "notifications");
        assert_eq!(one_channel(Some("channel=a")).unwrap().as_str(), "a");
        assert!(one_channel(Some("channel=a&channel=a")).is_err());
    }

    #[test]
    fn a_token_is_decoded_and_keeps_its_pluses() {
        assert_eq!(token(Some("token=a+b%2Fc%3D&token=z")).unwrap().as_deref(), Some("a+b/c="));
        assert_eq!(token(Some("channel=a")).unwrap(), None);
    }
}
