//! Reads the query of a request's target: `channel`, `since`, `last` and `token`; whatever else is
//! there is ignored.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    broker::{Position, Since},
    channel::ChannelName,
    conn::Wanted,
    limits::CHANNELS_PER_CLIENT_MAX,
};

/// The query cannot be served.
#[derive(Debug)]
pub(super) struct BadQuery {
    pub(super) mistake: Mistake,
    pub(super) hint: Cow<'static, str>,
}

/// What is wrong with a query; each has its word in the answers and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// Anything else.
    Request,
    /// No channel's name.
    Channel,
    /// No position.
    Position,
    /// More channels than a client may have.
    TooManyChannels,
}

impl Mistake {
    fn with(self, hint: impl Into<Cow<'static, str>>) -> BadQuery {
        BadQuery { mistake: self, hint: hint.into() }
    }
}

/// The channels of a handshake with where each begins: `since` belongs to the `channel` in the
/// same place (an empty one to none), `last` to all that have none.
pub(super) fn wanted(query: Option<&str>) -> Result<Vec<Wanted>, BadQuery> {
    let mut sinces = Vec::new();
    for value in values(query, "since") {
        let value = value?;
        let since = if value.is_empty() { None } else { Some(Since::After(position(&value)?)) };
        sinces.push(since);
    }
    let mut wanted: Vec<Wanted> = Vec::with_capacity(1);
    let mut places = HashMap::new();
    let mut given = 0;
    for value in values(query, "channel") {
        let channel = channel(&value?)?;
        let since = sinces.get_mut(given).and_then(Option::take);
        given += 1;
        // By name, since there may be a thousand.
        if let Some(&place) = places.get(&channel) {
            let known: &mut Wanted = &mut wanted[place];
            known.since = known.since.take().or(since);
            continue;
        }
        if wanted.len() == CHANNELS_PER_CLIENT_MAX {
            let hint = format!("at most {CHANNELS_PER_CLIENT_MAX} channels");
            return Err(Mistake::TooManyChannels.with(hint));
        }
        places.insert(channel.clone(), wanted.len());
        wanted.push(Wanted { channel, since });
    }
    if wanted.is_empty() {
        let since = sinces.first_mut().and_then(Option::take);
        given = 1;
        wanted.push(Wanted { channel: ChannelName::default_channel(), since });
    }
    if sinces.len() > given {
        let hint = "there are more since than channel; each belongs to one";
        return Err(Mistake::Request.with(hint));
    }
    if let Some(count) = last(query)? {
        for one in wanted.iter_mut().filter(|one| one.since.is_none()) {
            one.since = Some(Since::Newest(count));
        }
    }
    Ok(wanted)
}

/// The one channel of an event stream. `last_id` is where a stream that broke had got to: it
/// counts for more than the query, which is as old as the page.
pub(super) fn event_stream(query: Option<&str>, last_id: &[u8]) -> Result<Wanted, BadQuery> {
    let [mut one] = <[Wanted; 1]>::try_from(wanted(query)?)
        .map_err(|_| Mistake::Request.with("one channel a stream; open a stream for each"))?;
    if !last_id.is_empty() {
        let text = str::from_utf8(last_id)
            .map_err(|_| Mistake::Position.with("Last-Event-ID is no text"))?;
        let position = position(text)
            .map_err(|BadQuery { mistake, hint }| mistake.with(format!("Last-Event-ID: {hint}")))?;
        one.since = Some(Since::After(position));
    }
    Ok(one)
}

/// How many of the newest messages are asked for.
fn last(query: Option<&str>) -> Result<Option<usize>, BadQuery> {
    let Some(value) = values(query, "last").next().transpose()? else { return Ok(None) };
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(count) if is_number => Ok(Some(count)),
        _ => Err(Mistake::Request.with("last is a number of messages")),
    }
}

/// The one channel of a publication; the default channel if none.
pub(super) fn one_channel(query: Option<&str>) -> Result<ChannelName, BadQuery> {
    let mut given = values(query, "channel");
    let Some(value) = given.next() else { return Ok(ChannelName::default_channel()) };
    match given.next() {
        None => channel(&value?),
        Some(_) => {
            let hint = "name one channel; for several send application/x-ndjson";
            Err(Mistake::Request.with(hint))
        }
    }
}

/// The first `token`.
pub(super) fn token(query: Option<&str>) -> Result<Option<Cow<'_, str>>, BadQuery> {
    values(query, "token").next().transpose()
}

fn channel(text: &str) -> Result<ChannelName, BadQuery> {
    ChannelName::new(text).map_err(|error| Mistake::Channel.with(error.to_string()))
}

fn position(text: &str) -> Result<Position, BadQuery> {
    text.parse::<Position>().map_err(|error| Mistake::Position.with(error.to_string()))
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
            decode(value).ok_or_else(|| {
                let mistake = match name {
                    "channel" => Mistake::Channel,
                    "since" => Mistake::Position,
                    _ => Mistake::Request,
                };
                mistake.with(format!("{name} is not percent-encoded UTF-8"))
            })
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
    use crate::position::for_each_number;

    fn names(query: &str) -> Vec<String> {
        wanted(Some(query)).unwrap().iter().map(|one| one.channel.to_string()).collect()
    }

    #[test]
    fn channels_are_decoded_deduplicated_and_kept_in_order() {
        assert_eq!(names(""), ["notifications"]);
        assert_eq!(names("x=1&sinces=a:3"), ["notifications"]);
        assert_eq!(names("channel=b&channel=a&channel=b"), ["b", "a"]);
        assert_eq!(names("channel=a%3Ab&x=%zz&ch%61nnel=c"), ["a:b", "c"]);
    }

    #[test]
    fn a_strangers_numbers_are_bounded_in_the_address_and_in_the_header() {
        let offset = |one: Result<Wanted, BadQuery>| match one.ok()?.since? {
            Since::After(position) => Some(position.offset),
            Since::Newest(_) => None,
        };
        for_each_number(|number, expected| {
            let id = format!("e:{number}");
            assert_eq!(offset(event_stream(None, id.as_bytes())), expected, "{number}");
            let query = format!("since={id}");
            let asked = wanted(Some(&query)).map(|mut wanted| wanted.remove(0));
            assert_eq!(offset(asked), expected, "{number}");
            // However many: as many as there are.
            let _ = wanted(Some(&format!("last={number}")));
        });
    }

    #[test]
    fn each_since_belongs_to_the_channel_in_its_place_and_last_to_the_others() {
        let since = |query: &str| -> Vec<String> {
            let text = |one: Wanted| match one.since {
                None => "now".to_owned(),
                Some(Since::After(position)) => position.to_string(),
                Some(Since::Newest(count)) => count.to_string(),
            };
            wanted(Some(query)).unwrap().into_iter().map(text).collect()
        };
        assert_eq!(since("channel=a&since=e:1&channel=b&since=e:2"), ["e:1", "e:2"]);
        assert_eq!(since("channel=a&channel=b&since=&since=e%3A2"), ["now", "e:2"]);
        assert_eq!(since("channel=a&channel=a&since=&since=e:2"), ["e:2"]);
        assert_eq!(since("channel=a&channel=b&since=e:1"), ["e:1", "now"]);
        assert_eq!(since("channel=a&channel=b&since=e:1&last=5"), ["e:1", "5"]);
        assert_eq!(since("since=e:7"), ["e:7"]);
        assert_eq!(since("last=0"), ["0"]);
    }

    #[test]
    fn bad_positions_are_refused() {
        for query in [
            "since=7",
            "since=e:x",
            "since=e:1&since=e:2",
            "last=",
            "last=-1",
            "last=x",
            "channel=a&since=e:1&since=e:2",
            "since=%ff",
        ] {
            assert!(wanted(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn an_event_stream_has_one_channel_and_its_last_id_counts_for_more_than_the_query() {
        let since = |query, id: &str| match event_stream(Some(query), id.as_bytes()) {
            Ok(Wanted { since: Some(Since::After(position)), .. }) => position.to_string(),
            Ok(Wanted { since: Some(Since::Newest(count)), .. }) => count.to_string(),
            Ok(Wanted { since: None, .. }) => "now".to_owned(),
            Err(bad) => bad.hint.into_owned(),
        };
        assert_eq!(since("channel=a", ""), "now");
        assert_eq!(since("channel=a&since=e:1", ""), "e:1");
        assert_eq!(since("channel=a&since=e:1&last=5", "e:7"), "e:7");
        assert_eq!(since("last=5", "e:7"), "e:7");
        assert_eq!(since("channel=a&channel=a", ""), "now");
        assert!(since("channel=a&channel=b", "").starts_with("one channel"));
        assert!(since("channel=a", "7").starts_with("Last-Event-ID"));
        assert!(event_stream(None, b"\xff").is_err());
    }

    #[test]
    fn bad_channels_are_refused() {
        for query in ["channel=", "channel", "channel=a%2", "channel=%ff", "channel=a+b"] {
            assert!(wanted(Some(query)).is_err(), "{query}");
            assert!(one_channel(Some(query)).is_err(), "{query}");
        }
        let many: String =
            (0..=CHANNELS_PER_CLIENT_MAX).map(|n| format!("&channel=c{n}")).collect();
        assert!(wanted(Some(&many)).is_err());
        assert!(wanted(Some(&many[..many.rfind('&').unwrap()])).is_ok());
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
