//! Reads the query of a request's target: `channel`, `since`, `last` and `token`.
//!
//! A misspelt name must not send a message to all clients, or subscribe a client to another channel
//! than it asked for: publishing accepts no other name at all, listening none that is close to one
//! of these. Other names (of newer clients, against caches) are ignored when listening.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    broker::{Position, Since},
    channel::ChannelName,
    conn::SubscribeRequest,
    limits::{CHANNELS_PER_CLIENT_MAX, PARAMETER_SHOWN_CHARS_MAX, PARAMETERS_COMPARED_MAX},
    spelling::{self, letters_apart},
};

/// The parameters for listening.
const LISTENING: [&str; 4] = ["channel", "since", "last", "token"];
/// Parameters of other programs that have names similar to ours.
const WORDS_OF_THEIR_OWN: [&str; 15] = [
    "cancel", "cast", "chance", "change", "chapel", "east", "fast", "lat", "least", "list", "lost",
    "past", "sine", "taken", "vast",
];

/// The query cannot be served.
#[derive(Debug)]
pub(in crate::http) struct BadQuery {
    pub(in crate::http) mistake: Mistake,
    pub(in crate::http) hint: Cow<'static, str>,
}

/// The error in a query; each has its word in the answers and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Mistake {
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
    pub(in crate::http) fn with(self, hint: impl Into<Cow<'static, str>>) -> BadQuery {
        BadQuery { mistake: self, hint: hint.into() }
    }
}

/// The channels of a handshake with where each begins: `since` belongs to the `channel` in the
/// same place (an empty one to none), `last` to all that have none.
pub(in crate::http) fn wanted(query: Option<&str>) -> Result<Vec<SubscribeRequest>, BadQuery> {
    let mut sinces = Vec::new();
    for value in values(query, "since") {
        let value = value?;
        let since = if value.is_empty() { None } else { Some(Since::After(position(&value)?)) };
        sinces.push(since);
    }
    let mut wanted: Vec<SubscribeRequest> = Vec::with_capacity(1);
    let mut places = HashMap::new();
    let mut given = 0;
    for value in values(query, "channel") {
        let channel = channel(&value?)?;
        let since = sinces.get_mut(given).and_then(Option::take);
        given += 1;
        // By name, since there may be a thousand.
        if let Some(&place) = places.get(&channel) {
            let known: &mut SubscribeRequest = &mut wanted[place];
            known.since = known.since.take().or(since);
            continue;
        }
        if wanted.len() == CHANNELS_PER_CLIENT_MAX {
            let hint = format!("at most {CHANNELS_PER_CLIENT_MAX} channels");
            return Err(Mistake::TooManyChannels.with(hint));
        }
        places.insert(channel.clone(), wanted.len());
        wanted.push(SubscribeRequest { channel, since });
    }
    if wanted.is_empty() {
        let since = sinces.first_mut().and_then(Option::take);
        given = 1;
        wanted.push(SubscribeRequest { channel: ChannelName::default_channel(), since });
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

/// Whether a handshake says that it wants no channel yet: `channel=`, and nothing else about
/// channels.
pub(in crate::http) fn wants_none(query: Option<&str>) -> bool {
    let mut channels = values(query, "channel");
    let is_empty = matches!(channels.next(), Some(Ok(value)) if value.is_empty());
    is_empty
        && [channels.next(), values(query, "since").next(), values(query, "last").next()]
            .iter()
            .all(Option::is_none)
}

/// Refuses every parameter that is not among `known`, and says which one is nearest.
pub(in crate::http) fn takes_only(query: Option<&str>, known: &[&str]) -> Result<(), BadQuery> {
    for name in names(query) {
        if !known.contains(&&*name) {
            let nearest = known.iter().min_by_key(|known| letters_apart(bare(&name), known));
            return Err(misspelt(&name, nearest.unwrap_or(&"")));
        }
    }
    Ok(())
}

/// Refuses parameters that are nearly one of those that listeners have; the names of the others.
/// Behind many of these none is looked at.
pub(in crate::http) fn nearly_known(query: Option<&str>) -> Result<Vec<String>, BadQuery> {
    let mut ignored = Vec::new();
    // The first ones only: a long query has thousands, and to compare one costs more than to read
    // it.
    let unknown = names(query).filter(|name| !LISTENING.contains(&&**name));
    for name in unknown.take(PARAMETERS_COMPARED_MAX) {
        let is_word = WORDS_OF_THEIR_OWN.contains(&&*name);
        let near = |known: &&&str| !is_word && spelling::is_near(bare(&name), known);
        match LISTENING.iter().filter(near).min_by_key(|known| letters_apart(bare(&name), known)) {
            Some(nearest) => return Err(misspelt(&name, nearest)),
            None => ignored.push(shown(&name).into_owned()),
        }
    }
    Ok(ignored)
}

fn misspelt(name: &str, nearest: &str) -> BadQuery {
    // Debug form: what a stranger wrote must not break the line.
    let name = shown(name);
    Mistake::Request.with(format!("there is no parameter {name:?} here; is {nearest} meant?"))
}

/// A name as it may be repeated: a long one may be a token in a bad place.
fn shown(name: &str) -> Cow<'_, str> {
    match name.chars().count() {
        0..=PARAMETER_SHOWN_CHARS_MAX => name.into(),
        count => format!("({count} characters)").into(),
    }
}

/// The names of all parameters; one that cannot be decoded as it is written.
fn names(query: Option<&str>) -> impl Iterator<Item = Cow<'_, str>> {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        decode(name).unwrap_or(Cow::Borrowed(name))
    })
}

/// A name without the brackets of lists and what HTML makes of an ampersand.
fn bare(name: &str) -> &str {
    name.strip_prefix("amp;").unwrap_or(name).split('[').next().unwrap_or_default()
}

/// The one channel of an event stream. `last_id` is where a stream that broke had got to: it
/// counts for more than the query, which is as old as the page.
pub(in crate::http) fn event_stream(
    query: Option<&str>,
    last_id: &[u8],
) -> Result<SubscribeRequest, BadQuery> {
    let [mut one] = <[SubscribeRequest; 1]>::try_from(wanted(query)?)
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
    let Some(value) = only(query, "last")? else { return Ok(None) };
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match value.parse() {
        Ok(count) if is_number => Ok(Some(count)),
        _ => Err(Mistake::Request.with("last is a number of messages")),
    }
}

/// The one channel of a publication; the default channel if none.
pub(in crate::http) fn one_channel(query: Option<&str>) -> Result<ChannelName, BadQuery> {
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

/// The `token`.
pub(in crate::http) fn token(query: Option<&str>) -> Result<Option<Cow<'_, str>>, BadQuery> {
    only(query, "token")
}

/// The value of `name`, which counts once.
pub(in crate::http) fn only<'a>(
    query: Option<&'a str>,
    name: &'static str,
) -> Result<Option<Cow<'a, str>>, BadQuery> {
    let mut given = values(query, name);
    let value = given.next().transpose()?;
    match given.next() {
        None => Ok(value),
        Some(_) => Err(Mistake::Request.with(format!("there is more than one {name}"))),
    }
}

pub(in crate::http) fn channel(text: &str) -> Result<ChannelName, BadQuery> {
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

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
#[cfg(test)]
mod tests;
