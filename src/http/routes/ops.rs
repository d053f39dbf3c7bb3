//! The routes that look at the process: liveness, readiness, metrics.
//!
//! Facts come in through [`Sources`]; this file decides what they mean for a probe and how the
//! answer reads. Readiness says whether to send new clients here, liveness whether to restart the
//! process: the loss of Redis must do neither to all replicas at once.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use hyper::body::Incoming;
use serde::Serialize;

use crate::{
    broker::{Reach, RefusalExtent},
    clock::Millis,
    drain::Phase,
    http::{
        answer::{self, Answer},
        connection::{
            body::{self, BodyError},
            state::ConnectionState,
        },
        context::Context,
        sources::BrokerState,
    },
    limits,
    metrics::{ShardMetrics, text},
};

/// `GET /livez`.
pub(in crate::http) fn live(context: &Context) -> Answer {
    let silent = silent_shards(&context.ops.shards, context.clock.now(), limits::SHARD_STALL_LIVE);
    if silent.is_empty() {
        return answer::json(StatusCode::OK, &Live { status: "ok", silent_shards: &silent });
    }
    let stalled = Live { status: "stalled", silent_shards: &silent };
    answer::json(StatusCode::SERVICE_UNAVAILABLE, &stalled)
}

/// `GET /readyz`.
pub(in crate::http) fn ready(context: &Context) -> Answer {
    let broker = (context.ops.broker)();
    let silent = silent_shards(&context.ops.shards, context.clock.now(), limits::SHARD_STALL_READY);
    let is_stalled = broker.shard_stalled || !silent.is_empty();
    let (status, ready) = readiness(
        context.control.phase(),
        broker,
        context.settings.reject_on_broker_loss,
        is_stalled,
    );
    answer::json(status, &ready)
}

/// `GET /metrics`.
pub(in crate::http) fn metrics(context: &Context) -> Answer {
    answer::typed(StatusCode::OK, text::CONTENT_TYPE, context.ops.metrics_text.now())
}

/// `GET /stats`.
pub(in crate::http) fn stats(context: &Context) -> Answer {
    answer::json_text(StatusCode::OK, context.ops.stats_json.now())
}

/// `GET /`.
pub(in crate::http) fn index(context: &Context) -> Answer {
    let links = [
        "/livez",
        "/readyz",
        "/metrics",
        "/stats",
        "/admin/drain",
        "/admin/undrain",
        "/admin/disconnect",
    ];
    let index = Index { name: "wsbcast", version: &context.ops.version, links: &links };
    answer::json(StatusCode::OK, &index)
}

/// Reads the body of a request that needs none. The error is the answer.
pub(in crate::http) async fn read_nothing(
    state: &ConnectionState,
    body: Incoming,
) -> Result<(), Answer> {
    let mut charge = state.standing().charge();
    let read = body::collect(body, limits::ADMIN_BODY_BYTES_MAX, &mut charge).await;
    read.map_err(unread)?;
    state.body_was_read();
    Ok(())
}

fn unread(error: BodyError) -> Answer {
    let (status, word, hint) = match error {
        BodyError::TooBig => (StatusCode::PAYLOAD_TOO_LARGE, "too_big", "this takes no body"),
        BodyError::TooSlow => {
            (StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not arrive in time")
        }
        BodyError::Broken => {
            (StatusCode::BAD_REQUEST, "bad_request", "the body is incomplete or malformed")
        }
        BodyError::NoRoom => {
            (StatusCode::SERVICE_UNAVAILABLE, "full", "there is no room for a body; send none")
        }
    };
    answer::problem(status, word, hint)
}

#[derive(Serialize)]
struct Live<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    silent_shards: &'a [usize],
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Ready {
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<&'static str>,
}

#[derive(Serialize)]
struct Index<'a> {
    name: &'static str,
    version: &'a str,
    links: &'a [&'static str],
}

/// The state of readiness, as a function of the facts.
fn readiness(
    phase: Phase,
    broker: BrokerState,
    reject_on_broker_loss: bool,
    is_stalled: bool,
) -> (StatusCode, Ready) {
    let BrokerState { reach, refuses, .. } = broker;
    let is_broker_red =
        reach == Reach::NeverReached || reach == Reach::Lost && reject_on_broker_loss;
    let facts = [
        (phase > Phase::Serving, "draining"),
        (is_broker_red, "broker"),
        (refuses == RefusalExtent::All && reject_on_broker_loss, "broker_refuses"),
        (is_stalled, "shard_stalled"),
    ];
    let reasons: Vec<_> =
        facts.into_iter().filter(|(holds, _)| *holds).map(|(_, word)| word).collect();
    if !reasons.is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, Ready { status: "unready", reasons });
    }
    let facts =
        [(reach == Reach::Lost, "broker"), (refuses != RefusalExtent::Nothing, "broker_refuses")];
    let reasons: Vec<_> =
        facts.into_iter().filter(|(holds, _)| *holds).map(|fact| fact.1).collect();
    let status = if reasons.is_empty() { "ready" } else { "degraded" };
    (StatusCode::OK, Ready { status, reasons })
}

/// Indices of the shards whose loop has not beaten for `silence`.
fn silent_shards(shards: &[Arc<ShardMetrics>], now: Millis, silence: Duration) -> Vec<usize> {
    let is_silent = |shard: &ShardMetrics| now - Millis(shard.beat_ms.get()) > silence;
    let shards = shards.iter().enumerate();
    shards.filter(|(_, shard)| is_silent(shard)).map(|(index, _)| index).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readiness follows the drain, the broker and the shards.
    #[test]
    fn readiness_follows_drain_broker_and_shards() {
        use Phase::{PreDelay, Serving, Waiting};
        use Reach::{Embedded, Lost, NeverReached, Up};
        use RefusalExtent::{All, Nothing, Some};
        #[rustfmt::skip]
        let table: [(_, _, _, _, _, _, _, &[&str]); 12] = [
            (Serving, Embedded, Nothing, false, false, 200, "ready", &[]),
            (Serving, Up, Nothing, true, false, 200, "ready", &[]),
            (Serving, Lost, Nothing, false, false, 200, "degraded", &["broker"]),
            (Serving, Lost, Nothing, true, false, 503, "unready", &["broker"]),
            (Serving, NeverReached, Nothing, false, false, 503, "unready", &["broker"]),
            (Serving, Up, Nothing, false, true, 503, "unready", &["shard_stalled"]),
            (Serving, Up, All, false, false, 200, "degraded", &["broker_refuses"]),
            (Serving, Up, All, true, false, 503, "unready", &["broker_refuses"]),
            (Serving, Up, Some, true, false, 200, "degraded", &["broker_refuses"]),
            (Serving, Lost, All, false, false, 200, "degraded", &["broker", "broker_refuses"]),
            (PreDelay, Up, Nothing, false, false, 503, "unready", &["draining"]),
            (Waiting, NeverReached, Nothing, false, true, 503, "unready",
                &["draining", "broker", "shard_stalled"]),
        ];
        for (phase, reach, refuses, reject, stalled, status, word, reasons) in table {
            let broker = BrokerState { reach, refuses, shard_stalled: false };
            let (given, ready) = readiness(phase, broker, reject, stalled);
            assert_eq!(given.as_u16(), status, "{phase:?} {reach:?} {reject} {stalled}");
            assert_eq!((ready.status, ready.reasons.as_slice()), (word, reasons));
        }
    }
    #[test]
    fn a_shard_is_silent_once_its_last_beat_is_too_old() {
        let shards: Vec<_> = (0..3).map(|_| Arc::new(ShardMetrics::default())).collect();
        for (shard, beat_ms) in shards.iter().zip([10_000, 9_000, 8_999]) {
            shard.beat_ms.set(beat_ms);
        }
        let silence = Duration::from_secs(2);
        assert_eq!(silent_shards(&shards, Millis(11_000), silence), [2]);
        assert!(silent_shards(&shards, Millis(9_000), silence).is_empty());
    }
}
