//! `/admin/drain` and `/admin/undrain`: how the drain stands, and an operator's wishes about it.
//!
//! The query is read strictly: a misspelt parameter must not end the process in another way than
//! was meant. The control thread decides; this file only words the wish and the answer.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use http::StatusCode;
use hyper::body::Incoming;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    clock::Millis,
    drain::{Command, DrainState, Forecast, Outcome, Phase, Refused, Steering, forecast},
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
    metrics::EncodingWord,
};

/// The parameters of `POST /admin/drain`.
const PARAMETERS: [&str; 4] = ["timeout", "close-over", "now", "dry-run"];

/// `GET /admin/drain`.
pub(in crate::http) fn look(context: &Context) -> Answer {
    state(context, StatusCode::OK, context.control.drain(), context.clock.now())
}

/// `POST /admin/drain`. 202 if it begins now, 200 if it has begun before. The content of the body
/// is ignored; a request whose body never completes was not made.
pub(in crate::http) async fn steer(
    context: &Context,
    connection: &ConnectionState,
    query: Option<&str>,
    body: Incoming,
) -> Answer {
    let wished = wish(query).and_then(|wish| Ok((wish, switch(query, "dry-run")?)));
    let (wish, is_dry_run) = match wished {
        Ok(wished) => wished,
        Err(bad) => return bad_request(&bad.hint),
    };
    if let Err(unread) = ops::read_nothing(connection, body).await {
        return unread;
    }
    if is_dry_run {
        return match command(context, Command::Plan(wish)).await {
            Ok(Outcome { at, drain: Some(planned), .. }) => dry_run(context, &planned, at),
            Ok(_) => look(context),
            Err(refusal) => refusal,
        };
    }
    if wish.is_plain() && context.control.phase() > Phase::Serving {
        return look(context);
    }
    match command(context, Command::Steer(wish)).await {
        Ok(Outcome { at, drain, has_begun: true }) => {
            state(context, StatusCode::ACCEPTED, drain, at)
        }
        Ok(Outcome { at, drain, .. }) => state(context, StatusCode::OK, drain, at),
        Err(refusal) => refusal,
    }
}

/// `POST /admin/undrain`. 200 once the process serves again.
pub(in crate::http) async fn undrain(
    context: &Context,
    connection: &ConnectionState,
    query: Option<&str>,
    body: Incoming,
) -> Answer {
    let is_forced = query::takes_only(query, &["force"]).and_then(|()| switch(query, "force"));
    let is_forced = match is_forced {
        Ok(is_forced) => is_forced,
        Err(bad) => return bad_request(&bad.hint),
    };
    if let Err(unread) = ops::read_nothing(connection, body).await {
        return unread;
    }
    match command(context, Command::Undrain { is_forced }).await {
        Ok(Outcome { at, drain, .. }) => state(context, StatusCode::OK, drain, at),
        Err(refusal) => refusal,
    }
}

/// The outcome of `command`. The error is the answer.
async fn command(context: &Context, command: Command) -> Result<Outcome, Answer> {
    let asked = context.control.ask(command);
    match timeout(limits::DRAIN_COMMAND_DEADLINE, asked).await {
        Ok(done) => done.map_err(refusal),
        Err(_) => {
            let hint = "the thread that drains has not answered in time, and may still do it: \
                        GET /admin/drain tells";
            Err(answer::problem(StatusCode::GATEWAY_TIMEOUT, "unconfirmed", hint))
        }
    }
}

fn refusal(refused: Refused) -> Answer {
    match refused {
        Refused::Serving => conflict("serving", "there is no drain to take back"),
        Refused::Ending => {
            conflict("stopping", "the process has begun to end, and nothing turns that back")
        }
        Refused::Signalled => conflict(
            "stopping",
            "a signal wants the process to end, and its sender may kill it later: stop that first, \
             then say force=true",
        ),
        Refused::Failed => {
            conflict("stopping", "a part of the process has failed: it can't serve again")
        }
        Refused::Busy => {
            let hint = "too many requests about the drain wait already; try again";
            let answer = answer::problem(StatusCode::SERVICE_UNAVAILABLE, "full", hint);
            answer::retry_after(answer, limits::RETRY_AFTER_FULL_SECS)
        }
        Refused::NoRoom { close_over, room } => bad_request(&format!(
            "close-over, {}, does not fit: until the limit there are {}; give a longer timeout",
            shown(close_over),
            shown(room)
        )),
        Refused::WithinPreDelay { timeout, pre_delay } => bad_request(&format!(
            "timeout, {}, is shorter than the pre-delay, which lasts {} from now; now=true does \
             without it",
            shown(timeout),
            shown(pre_delay)
        )),
    }
}

fn conflict(word: &str, hint: &str) -> Answer {
    answer::problem(StatusCode::CONFLICT, word, hint)
}

fn bad_request(hint: &str) -> Answer {
    answer::problem(StatusCode::BAD_REQUEST, "bad_request", hint)
}

/// A duration as it would be typed.
fn shown(duration: Duration) -> Cow<'static, str> {
    if duration.is_zero() {
        return "0s".into();
    }
    humantime::format_duration(duration).to_string().replace(' ', "").into()
}

/// The state of the drain, as both methods answer it.
#[derive(Serialize)]
struct Progress {
    phase: Phase,
    clients: usize,
    seconds_left: Option<u64>,
    /// `None` where it is not known: while serving, and in the first second.
    leave_rate_per_second: Option<f64>,
    /// At that rate; `None` where nobody leaves.
    estimated_seconds_left: Option<u64>,
}

fn state(context: &Context, status: StatusCode, drain: Option<DrainState>, now: Millis) -> Answer {
    let clients = context.control.barrier.clients();
    let rate = context.control.departures.per_second(now).filter(|_| drain.is_some());
    let progress = Progress {
        phase: drain.map_or(Phase::Serving, |drain| drain.phase),
        clients,
        seconds_left: drain.map(|drain| (drain.deadline - now).as_secs()),
        leave_rate_per_second: rate.map(rounded),
        estimated_seconds_left: rate.and_then(|rate| estimated_seconds_left(clients, rate)),
    };
    answer::json(status, &progress)
}

/// The answer to a dry run.
#[derive(Serialize)]
struct DryRun {
    dry_run: bool,
    /// The phase now.
    phase: Phase,
    clients: usize,
    clients_by_encoding: BTreeMap<&'static str, u64>,
    /// Until the hard limit.
    seconds_left: u64,
    leave_rate_per_second: Option<f64>,
    #[serde(flatten)]
    forecast: Forecast,
}

fn dry_run(context: &Context, planned: &DrainState, now: Millis) -> Answer {
    let clients = context.control.barrier.clients();
    let rate = context.control.departures.per_second(now);
    let of_word = |(place, word): (usize, &&'static str)| {
        let shards = context.ops.shards.iter();
        (*word, shards.map(|shard| shard.clients_by_encoding[place].get()).sum())
    };
    let told = DryRun {
        dry_run: true,
        phase: context.control.phase(),
        clients,
        clients_by_encoding: EncodingWord::WORDS.iter().enumerate().map(of_word).collect(),
        seconds_left: (planned.deadline - now).as_secs(),
        leave_rate_per_second: rate.map(rounded),
        forecast: forecast(planned, now, clients as u64, rate),
    };
    answer::json(StatusCode::OK, &told)
}

/// Three digits after the point.
fn rounded(rate: f64) -> f64 {
    (rate * 1000.0).round() / 1000.0
}

/// When the last of `clients` leaves at `rate`, rounded up.
fn estimated_seconds_left(clients: usize, rate: f64) -> Option<u64> {
    match clients {
        0 => Some(0),
        _ if rate > 0.0 => Some((clients as f64 / rate).ceil() as u64),
        _ => None,
    }
}

fn wish(query: Option<&str>) -> Result<Steering, BadQuery> {
    query::takes_only(query, &PARAMETERS)?;
    let timeout = query::only(query, "timeout")?.map(|text| time("timeout", &text));
    let close_over = query::only(query, "close-over")?.map(|text| time("close-over", &text));
    Ok(Steering {
        timeout: timeout.transpose()?,
        close_over: close_over.transpose()?,
        closes_now: switch(query, "now")?,
    })
}

/// A parameter that is on or off; off if it is not given.
fn switch(query: Option<&str>, name: &'static str) -> Result<bool, BadQuery> {
    match query::only(query, name)?.as_deref() {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Mistake::Request.with(format!("{name} is true or false"))),
    }
}

/// In whole milliseconds, as all times of a drain.
fn time(name: &str, text: &str) -> Result<Duration, BadQuery> {
    let time = if text == "0" { Ok(Duration::ZERO) } else { humantime::parse_duration(text) };
    let time = time.ok().filter(|time| *time <= limits::DRAIN_TIME_MAX);
    let time = time.and_then(|time| u64::try_from(time.as_millis()).ok());
    time.map(Duration::from_millis).ok_or_else(|| {
        let most = shown(limits::DRAIN_TIME_MAX);
        let hint = format!("{name} is a duration from 0s to {most}, such as 500ms, 10s or 1m30s");
        Mistake::Request.with(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_says_what_it_means() {
        let ms = |ms| Some(Duration::from_millis(ms));
        for (query, timeout, close_over, closes_now) in [
            (None, None, None, false),
            (Some(""), None, None, false),
            (Some("timeout=10m"), ms(600_000), None, false),
            (Some("close-over=1m30s&timeout=24h"), ms(86_400_000), ms(90_000), false),
            (Some("now=true"), None, None, true),
            (Some("now=false&timeout=0"), ms(0), None, false),
            (Some("timeout=0s&close-over=0s&now=true"), ms(0), ms(0), true),
            (Some("timeout=1500us"), ms(1), None, false),
            (Some("clos%65-over=1s"), None, ms(1000), false),
        ] {
            let expected = Steering { timeout, close_over, closes_now };
            assert_eq!(wish(query).unwrap(), expected, "{query:?}");
        }
    }

    #[test]
    fn a_misspelt_wish_is_refused() {
        for query in [
            "timeout",
            "timeout=",
            "timeout=10",
            "timeout=-1s",
            "timeout=25h",
            "timeout=24h1ms",
            "timeout=99999999999999999999h",
            "timeout=1s&timeout=1s",
            "timeout=%ff",
            "Timeout=1s",
            "time-out=1s",
            "close_over=1s",
            "close-over=x",
            "close-over=1s&close-over=2s",
            "now",
            "now=",
            "now=1",
            "now=True",
            "now=true&now=true",
            "dry_run=true",
            "now[]=true",
            "token=t",
            "x",
        ] {
            assert!(wish(Some(query)).is_err(), "{query}");
        }
    }

    #[test]
    fn the_end_is_estimated_from_the_rate() {
        for (clients, rate, seconds) in [
            (0, 0.0, Some(0)),
            (1, 0.0, None),
            (10, 2.0, Some(5)),
            (10, 3.0, Some(4)),
            (1_000_000, 0.016, Some(62_500_000)),
        ] {
            assert_eq!(estimated_seconds_left(clients, rate), seconds, "{clients} at {rate}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_typed() {
        for text in ["0s", "1ms", "1m30s", "1day"] {
            assert_eq!(shown(time("x", text).unwrap()), text);
        }
    }
}
