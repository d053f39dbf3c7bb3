//! `POST /admin/disconnect`: closes clients, in every process of the cluster.
//!
//! The query is read strictly: a misspelt parameter must not close others than were meant. The way
//! to the shards is the [`Announcer`](crate::broker::Announcer)'s matter.

use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use serde::Serialize;

use crate::{
    bans::Bearer,
    broker::{AnnounceError, Announced, Announcement, Disconnection, Selector},
    http::{
        answer::{self, Answer},
        connection::state::ConnectionState,
        context::Context,
        routes::{
            ops,
            query::{self, BadQuery, Mistake},
        },
    },
    limits,
    metrics::PublishFailure,
};

/// The parameters of the query.
const PARAMETERS: [&str; 5] = ["sub", "jti", "channel", "retry", "for"];

/// 202, and how many clients of this process are closed. A request whose body never completes was
/// not made.
pub(in crate::http) async fn answer(
    context: &Context,
    state: &ConnectionState,
    query: Option<&str>,
    body: Incoming,
) -> Answer {
    let disconnection = match disconnection(query) {
        Ok(disconnection) => disconnection,
        Err(bad) => return bad_query(&bad),
    };
    if let Err(unread) = ops::read_nothing(state, body).await {
        return unread;
    }
    match context.announcer.announce(Announcement::Disconnect(disconnection)).await {
        Ok(Announced { clients, scope }) => {
            let closed = Closed { clients, scope: scope.word() };
            answer::json(StatusCode::ACCEPTED, &closed)
        }
        Err(AnnounceError::ShardStalled) => {
            let word = PublishFailure::ShardStalled.word();
            let hint = "this process is overloaded and nobody was disconnected; try again";
            answer::problem(StatusCode::SERVICE_UNAVAILABLE, word, hint)
        }
        Err(AnnounceError::BansFull) => {
            let hint = format!(
                "{} are kept out already, as many as may be, and nobody was disconnected; try \
                 again when one of them is over, or without `for`",
                limits::BANS_MAX
            );
            answer::problem(StatusCode::SERVICE_UNAVAILABLE, "bans_full", &hint)
        }
    }
}

#[derive(Serialize)]
struct Closed {
    clients: usize,
    scope: &'static str,
}

fn bad_query(bad: &BadQuery) -> Answer {
    let word = match bad.mistake {
        Mistake::Channel => "bad_channel",
        Mistake::Request | Mistake::Position | Mistake::TooManyChannels => "bad_request",
    };
    answer::problem(StatusCode::BAD_REQUEST, word, &bad.hint)
}

fn disconnection(query: Option<&str>) -> Result<Disconnection, BadQuery> {
    query::takes_only(query, &PARAMETERS)?;
    let named = ["sub", "jti", "channel"].map(|name| query::only(query, name));
    let [sub, jti, channel] = named;
    let selector = match (sub?, jti?, channel?) {
        (Some(sub), None, None) => Selector::Bearer(Bearer::Subject(claim("sub", &sub)?)),
        (None, Some(jti), None) => Selector::Bearer(Bearer::TokenId(claim("jti", &jti)?)),
        (None, None, Some(channel)) => Selector::Channel(query::channel(&channel)?),
        _ => {
            let hint = "say which clients by one of sub, jti (claims of their tokens) and channel";
            return Err(Mistake::Request.with(hint));
        }
    };
    let may_return = match query::only(query, "retry")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Mistake::Request.with("retry is true or false")),
    };
    let banned_for = query::only(query, "for")?.map(|text| time(&text)).transpose()?;
    if banned_for.is_some() && matches!(selector, Selector::Channel(_)) {
        let hint = "for is for sub and jti: nobody is kept out of a channel by its name";
        return Err(Mistake::Request.with(hint));
    }
    if banned_for.is_some() && may_return {
        let hint = "retry=true has them come back, and for keeps them out: say one of the two";
        return Err(Mistake::Request.with(hint));
    }
    Ok(Disconnection { selector, may_return, banned_for })
}

/// A claim of a token.
fn claim(name: &str, text: &str) -> Result<Box<str>, BadQuery> {
    if (1..=limits::TOKEN_TEXT_BYTES_MAX).contains(&text.len()) {
        return Ok(text.into());
    }
    let hint = format!("{name} has 1 to {} bytes", limits::TOKEN_TEXT_BYTES_MAX);
    Err(Mistake::Request.with(hint))
}

/// How long somebody is kept out.
fn time(text: &str) -> Result<Duration, BadQuery> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| (limits::BAN_MIN..=limits::BAN_MAX).contains(time)).ok_or_else(|| {
        Mistake::Request.with("for is a duration from 1s to 30days, such as 10m or 1h30m")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelName;

    fn read(query: &str) -> Result<Disconnection, Mistake> {
        disconnection(Some(query)).map_err(|bad| bad.mistake)
    }

    #[test]
    fn a_disconnection_names_its_clients_once() {
        let channel = |name: &str| Selector::Channel(ChannelName::new(name).unwrap());
        let subject = |text: &str| Selector::Bearer(Bearer::Subject(text.into()));
        let token_id = |text: &str| Selector::Bearer(Bearer::TokenId(text.into()));
        let long = "x".repeat(256);
        for (query, selector, may_return, secs) in [
            ("channel=a", channel("a"), false, 0),
            ("channel=a%3Ab&retry=true", channel("a:b"), true, 0),
            ("retry=false&channel=a", channel("a"), false, 0),
            ("sub=alice", subject("alice"), false, 0),
            ("sub=a+b%20c%26d&retry=true", subject("a+b c&d"), true, 0),
            ("for=10m&sub=alice", subject("alice"), false, 600),
            ("jti=7&for=1s", token_id("7"), false, 1),
            ("jti=7&for=30days&retry=false", token_id("7"), false, 30 * 86_400),
            (&format!("jti={long}"), token_id(&long), false, 0),
        ] {
            let banned_for = Some(Duration::from_secs(secs)).filter(|time| !time.is_zero());
            let expected = Disconnection { selector, may_return, banned_for };
            assert_eq!(read(query), Ok(expected), "{query}");
        }
    }

    #[test]
    fn a_misspelt_disconnection_is_refused() {
        let long = format!("sub={}", "x".repeat(257));
        let request = [
            "",
            "retry=true",
            "for=1h",
            "channel=a&channel=b",
            "sub=a&sub=a",
            "sub=a&jti=a",
            "sub=a&channel=a",
            "sub=a&jti=a&channel=a",
            "chanel=a",
            "channel[]=a",
            "Channel=a",
            "subject=a",
            "channel=a&x",
            "channel=a&retry",
            "channel=a&retry=1",
            "channel=a&retry=True",
            "channel=a&retry=true&retry=true",
            "channel=a&token=t",
            "channel=a&for=1h",
            "sub=a&for=1h&retry=true",
            "jti=7&retry=true&for=1s",
            "sub=",
            "sub",
            "jti=",
            "sub=%ff",
            &long,
            "sub=a&for=",
            "sub=a&for=0",
            "sub=a&for=0s",
            "sub=a&for=999ms",
            "sub=a&for=31days",
            "sub=a&for=10",
            "sub=a&for=-1h",
            "sub=a&for=1h&for=1h",
            "sub=a&for=99999999999999999999h",
        ];
        for query in request {
            assert_eq!(read(query), Err(Mistake::Request), "{query}");
        }
        for query in ["channel=", "channel", "channel=a%20b", "channel=%", "channel=*"] {
            assert_eq!(read(query), Err(Mistake::Channel), "{query}");
        }
        assert!(disconnection(None).is_err());
    }
}
