//! `POST /admin/disconnect`: closes clients, in every process of the cluster.
//!
//! The query is read strictly: a misspelt parameter must not close others than were meant. The way
//! to the shards is the [`Announcer`](crate::broker::Announcer)'s matter.

use http::StatusCode;
use hyper::body::Incoming;
use serde::Serialize;

use crate::{
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
    metrics::PublishFailure,
};

/// The parameters of the query.
const PARAMETERS: [&str; 2] = ["channel", "retry"];

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
    let Some(channel) = query::only(query, "channel")? else {
        let hint = "say which clients: ?channel=NAME, those that are subscribed to it";
        return Err(Mistake::Request.with(hint));
    };
    let selector = Selector::Channel(query::channel(&channel)?);
    let may_return = match query::only(query, "retry")?.as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Mistake::Request.with("retry is true or false")),
    };
    Ok(Disconnection { selector, may_return })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<(String, bool), Mistake> {
        let read = disconnection(Some(query)).map_err(|bad| bad.mistake)?;
        let Selector::Channel(channel) = read.selector;
        Ok((channel.to_string(), read.may_return))
    }

    #[test]
    fn a_disconnection_names_its_clients_once() {
        assert_eq!(read("channel=a"), Ok(("a".into(), false)));
        assert_eq!(read("channel=a%3Ab&retry=true"), Ok(("a:b".into(), true)));
        assert_eq!(read("retry=false&channel=a"), Ok(("a".into(), false)));
    }

    #[test]
    fn a_misspelt_disconnection_is_refused() {
        let request = [
            "",
            "retry=true",
            "channel=a&channel=b",
            "chanel=a",
            "channel[]=a",
            "Channel=a",
            "channel=a&x",
            "channel=a&retry",
            "channel=a&retry=1",
            "channel=a&retry=True",
            "channel=a&retry=true&retry=true",
            "channel=a&token=t",
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
