//! `POST /broadcast`: from a request to a message at the broker, and the truth about it back.
//!
//! The right is checked first, then everything that can be decided without the body, then the body
//! is read. The answer says how far the message got: `cluster` with its offset, `local`, or an
//! error that tells whether it may have gone out. Batches are in `batch`.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request};
use hyper::body::Incoming;
use tracing::debug;

use crate::{
    broker::{IdempotencyKey, Message, PublishError},
    http::{
        access::Requester,
        access_log::Subject,
        answer::{self, Answer},
        connection::{
            body::{self, BodyError},
            state::ConnectionState,
        },
        context::{Context, Public},
        routes::{
            batch,
            body_type::{self, BodyType},
            pace::Pace,
            publication::{
                Refused, bad_channel, explain, invalid, refused, settle, status, too_big,
            },
            publisher::Publisher,
            query::{self, BadQuery, Mistake},
        },
    },
    limits,
    metrics::PublishFailure,
    ws::Kind,
};

/// Names the request; see the draft "The Idempotency-Key HTTP Header Field" of the IETF's HTTPAPI
/// group. The value is taken as it is, quotes and all.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Publishes the request's body.
pub(in crate::http) async fn answer(
    context: &Context,
    public: &Public,
    state: &ConnectionState,
    head: &request::Parts,
    requester: Requester<'_>,
    body: Incoming,
) -> Answer {
    let mut subject = None;
    let done = async {
        let publisher = Publisher::of(context, public, &requester).await?;
        subject = publisher.rights.as_ref().and_then(|rights| rights.sub.clone());
        query::takes_only(head.uri.query(), &["channel"]).map_err(bad_query)?;
        let channel = query::one_channel(head.uri.query()).map_err(bad_query)?;
        uncoded(&head.headers)?;
        let message_bytes_max = context.settings.broadcast_bytes_max;
        let body_type = body_type::of(&head.headers).map_err(unsupported_type)?;
        let key = key(&head.headers)?;
        if let BodyType::Message(_) = body_type {
            publisher.check(&channel, "")?;
        }
        let bytes_max = match body_type {
            BodyType::Message(_) => message_bytes_max,
            BodyType::Batch => (message_bytes_max * 4).max(limits::BATCH_BYTES_MAX_MIN),
        };
        // Returned when the broker has the message, or it is refused; a batch's, with its answer.
        let mut charge = state.standing().charge();
        let body = body::collect(body, bytes_max, &mut charge)
            .await
            .map_err(|error| unread(error, bytes_max))?;
        state.body_was_read();
        not_empty_by_mistake(&body, body_type, &head.headers)?;
        match body_type {
            BodyType::Message(kind) => {
                let publisher = publisher.principal;
                one(public, Message { publisher, channel, kind, data: body, key }).await
            }
            BodyType::Batch => {
                let pace = Pace::new(context.clock, limits::BATCH_DEADLINE);
                state.works_for_long();
                let work = batch::work_bytes(&body, key.is_some());
                if !charge.wait_for(work).await {
                    return Err(no_room());
                }
                let messages =
                    batch::parse(&body, &channel, key.as_ref(), message_bytes_max, &publisher)
                        .await?;
                drop(body);
                charge.input_is_gone();
                let answer = batch::publish(public, publisher.principal, messages, &pace).await;
                charge.shrink_to(answer.body().len());
                state.answers_with(charge);
                Ok(answer)
            }
        }
    };
    let done = done.await;
    let mut answer = done.unwrap_or_else(|refused: Refused| refuse(public, &requester, *refused));
    if let Some(subject) = subject {
        answer.extensions_mut().insert(Subject(subject));
    }
    answer
}

/// Counts a refusal; its answer.
pub(in crate::http) fn refuse(
    public: &Public,
    requester: &Requester<'_>,
    (reason, answer): (PublishFailure, Answer),
) -> Answer {
    debug!(peer = %requester.peer, reason = reason.word(), "publication refused");
    public.metrics.publish_failures.add(reason as usize, 1);
    answer
}

async fn one(public: &Public, message: Message) -> Result<Answer, Refused> {
    if message.kind == Kind::Text && std::str::from_utf8(&message.data).is_err() {
        return Err(invalid(
            "the message is not UTF-8; send Content-Type: application/octet-stream for binary",
        ));
    }
    let channel = message.channel.clone();
    let published = public.broker.publish(message);
    Ok(match settle(public, channel, published).await {
        Ok(published) => answer::json(StatusCode::ACCEPTED, &published),
        Err(error) => {
            let failed = answer::json(status(&error), &explain(&error));
            match error {
                PublishError::Unconfirmed => failed,
                _ => answer::retry_after(failed, limits::RETRY_AFTER_FULL_SECS),
            }
        }
    })
}

/// 415: it is neither a message nor a batch.
fn unsupported_type(hint: &str) -> Refused {
    refused(StatusCode::UNSUPPORTED_MEDIA_TYPE, PublishFailure::UnsupportedType, hint)
}

fn bad_query(bad: BadQuery) -> Refused {
    match bad.mistake {
        Mistake::Channel => bad_channel(&bad.hint),
        Mistake::Request | Mistake::Position | Mistake::TooManyChannels => invalid(&bad.hint),
    }
}

fn unread(error: BodyError, bytes_max: usize) -> Refused {
    match error {
        BodyError::TooBig => {
            too_big(&format!("at most {bytes_max} bytes are taken; see --max-broadcast-size"))
        }
        BodyError::TooSlow => {
            let hint = "the body did not arrive in time";
            refused(StatusCode::REQUEST_TIMEOUT, PublishFailure::Timeout, hint)
        }
        BodyError::NoRoom => no_room(),
        BodyError::Broken => invalid("the body is incomplete or malformed"),
    }
}

/// 503: requests hold as much as they may.
fn no_room() -> Refused {
    let stalled = PublishError::ShardStalled;
    let answer = answer::json(status(&stalled), &explain(&stalled));
    let answer = answer::retry_after(answer, limits::RETRY_AFTER_FULL_SECS);
    Box::new((PublishFailure::from(&stalled), answer))
}

/// `curl -d @FILE` posts an empty form if the file is missing, `--json` an empty text that is no
/// JSON. A request without a type, or with a type that an empty message may have, means it.
fn not_empty_by_mistake(
    body: &[u8],
    body_type: BodyType,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    let kind = body_type::essence(headers).to_ascii_lowercase();
    let is_meant = match body_type {
        BodyType::Message(Kind::Binary) => true,
        BodyType::Message(Kind::Text) => kind.is_empty() || kind.starts_with("text/"),
        BodyType::Batch => false,
    };
    if !body.is_empty() || is_meant {
        return Ok(());
    }
    Err(invalid(
        "the body is empty (is a file missing?); an empty message is sent with Content-Type: \
         text/plain",
    ))
}

/// A body with a content coding would reach the clients as it is: nothing is decoded here.
fn uncoded(headers: &HeaderMap) -> Result<(), Refused> {
    let is_identity = |value: &HeaderValue| {
        let mut codings = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        codings.all(|coding| coding.is_empty() || coding.eq_ignore_ascii_case(b"identity"))
    };
    let is_plain = headers.get_all(header::CONTENT_ENCODING).iter().all(is_identity);
    let hint = match is_plain {
        true if !is_wide(headers) => return Ok(()),
        true => "send text as UTF-8",
        false => "send the message as it is, without Content-Encoding",
    };
    let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    let mut refused = refused(status, PublishFailure::UnsupportedEncoding, hint);
    let identity = HeaderValue::from_static("identity");
    refused.1.headers_mut().insert(header::ACCEPT_ENCODING, identity);
    Err(refused)
}

/// Whether the Content-Type says that a letter is several bytes, which may be valid UTF-8 and mean
/// something else. Other charsets are invalid UTF-8, or the same as UTF-8 where it matters.
fn is_wide(headers: &HeaderMap) -> bool {
    if body_type::of(headers) == Ok(BodyType::Message(Kind::Binary)) {
        return false;
    }
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parameters = value.unwrap_or_default().split(';').skip(1).map(str::trim);
    let charset = |text: &str| {
        let (name, value) = text.split_once('=')?;
        let value = value.trim().trim_matches('"').to_ascii_lowercase();
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    };
    let wide = ["utf-16", "utf16", "utf-32", "utf32", "ucs-", "utf-7"];
    let charset = parameters.find_map(charset).unwrap_or_default();
    wide.iter().any(|name| charset.starts_with(name))
}

/// The publisher's name for its request, by which it may repeat it.
fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Refused> {
    let mut given = headers.get_all(KEY).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(invalid("send one Idempotency-Key"));
    }
    // A value that is not ASCII is no key either.
    let key = IdempotencyKey::new(value.to_str().unwrap_or_default());
    key.map(Some).map_err(|error| invalid(&error.to_string()))
}
