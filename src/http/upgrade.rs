//! The handshake: from a request for a WebSocket to the 101, or to the reason why not.
//!
//! The order matters. The drain guard is taken before the phase is looked at, so that the drain
//! either counts the client or the client sees the drain; the channels are subscribed before the
//! 101 leaves, so that nothing published after it is missed.

use http::{HeaderMap, HeaderValue, StatusCode, header, request};
use tracing::debug;

use super::{
    Admission, Context, Endpoint, Public,
    access::{Asker, Right, Verdict},
    answer::{self, Answer},
    query, route,
};
use crate::{
    channel::ChannelName,
    drain::{Guard, Phase},
    hub::Encoding,
    limits,
    metrics::Rejection,
    ws::{
        extension::{self, Agreement},
        handshake::{self, Refusal, VERSION},
    },
};

/// What an accepted handshake is for; goes with the stream.
pub(super) struct Handover {
    pub(super) endpoint: Endpoint,
    pub(super) encoding: Encoding,
    pub(super) channels: Vec<ChannelName>,
    pub(super) may_publish: bool,
    pub(super) admission: Option<Admission>,
    pub(super) guard: Guard,
}

/// Why a handshake is not answered 101, and what it is answered.
type Refused = Box<(Rejection, Answer)>;

/// What a valid handshake asks for.
struct Wish {
    accept: HeaderValue,
    deflate: Option<Agreement>,
    channels: Vec<ChannelName>,
    may_publish: bool,
}

/// Answers a handshake; with `Some` the answer is the 101.
pub(super) async fn answer(
    context: &Context,
    public: &Public,
    endpoint: Endpoint,
    head: &request::Parts,
    asker: Asker<'_>,
) -> (Answer, Option<Handover>) {
    let accepted = async {
        let wish = understand(context, endpoint, head, asker)?;
        let guard = enter(context)?;
        let encoding =
            wish.deflate.map_or(Encoding::Plain, |deflate| Encoding::Deflate(deflate.window));
        let admission = match endpoint {
            Endpoint::Ws => Some((public.admit)(&wish.channels, encoding).await),
            Endpoint::Echo => None,
        };
        // Admission may have taken a second; a 503 now is better than a 1012 right after.
        welcome(context)?;
        let Wish { accept, deflate, channels, may_publish } = wish;
        let handover = Handover { endpoint, encoding, channels, may_publish, admission, guard };
        Ok((switching(accept, deflate), Some(handover)))
    };
    accepted.await.unwrap_or_else(|refused: Refused| {
        let (reason, answer) = *refused;
        let word = Rejection::WORDS[reason as usize];
        debug!(peer = %asker.peer, reason = word, "handshake refused");
        public.metrics.handshakes_rejected.add(reason as usize, 1);
        (answer, None)
    })
}

/// Checks all that the request says.
fn understand(
    context: &Context,
    endpoint: Endpoint,
    head: &request::Parts,
    asker: Asker<'_>,
) -> Result<Wish, Refused> {
    let accept = handshake::check(&head.method, head.version, &head.headers).map_err(refusal)?;
    let query = head.uri.query();
    let token = query::token(query).map_err(|hint| bad_request(&hint))?;
    let asker = Asker { query_token: token.as_deref(), ..asker };
    let rules = &context.settings.access;
    if !rules.tokens.is_empty() && rules.presented(&asker) == Some(false) {
        return Err(Box::new((Rejection::Denied, route::denied(Verdict::Unauthorized))));
    }
    let channels = match endpoint {
        Endpoint::Ws => query::channels(query).map_err(|hint| bad_request(&hint))?,
        Endpoint::Echo => Vec::new(),
    };
    let may_publish = context.settings.client_publish
        && endpoint == Endpoint::Ws
        && rules.judge(Right::Publish, &asker) == Verdict::Allowed;
    let accept = HeaderValue::try_from(accept.accept_key)
        .expect("an accept key is base64, which is valid in a header");
    let deflate =
        context.settings.compression.then(|| extension::negotiate(&head.headers)).flatten();
    Ok(Wish { accept, deflate, channels, may_publish })
}

/// Takes the drain guard, then looks whether a new client is welcome.
fn enter(context: &Context) -> Result<Guard, Refused> {
    let barrier = &context.control.barrier;
    let guard = barrier.client();
    welcome(context)?;
    if barrier.clients() > context.settings.connections_max {
        let answer = answer::problem(
            StatusCode::SERVICE_UNAVAILABLE,
            "full",
            "the limit of --max-connections is reached; try again",
        );
        let answer = answer::retry_after(answer, limits::RETRY_AFTER_FULL_SECS);
        return Err(Box::new((Rejection::Full, answer)));
    }
    Ok(guard)
}

/// Whether the phase lets new clients in.
fn welcome(context: &Context) -> Result<(), Refused> {
    if context.control.phase() < Phase::Waiting {
        return Ok(());
    }
    let hint = "this process is shutting down; connect again, to another one";
    let answer = answer::problem(StatusCode::SERVICE_UNAVAILABLE, "draining", hint);
    let mut answer = answer::retry_after(answer, limits::RETRY_AFTER_DRAINING_SECS);
    answer::close(&mut answer);
    Err(Box::new((Rejection::Draining, answer)))
}

fn switching(accept: HeaderValue, deflate: Option<Agreement>) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(deflate) = deflate {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.answer());
    }
    answer
}

fn refusal(refusal: Refusal) -> Refused {
    match refusal {
        Refusal::NotUpgrade => {
            let hint = "this is a WebSocket endpoint: connect with a WebSocket client";
            let required = |headers: &mut HeaderMap| {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            };
            upgrade_required("upgrade required", hint, required)
        }
        Refusal::WrongVersion => {
            let hint = "only WebSocket version 13 is spoken here";
            let required = |headers: &mut HeaderMap| {
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            };
            upgrade_required("wrong version", hint, required)
        }
        Refusal::Bad(hint) => bad_request(hint),
    }
}

fn upgrade_required(error: &str, hint: &str, required: impl FnOnce(&mut HeaderMap)) -> Refused {
    let mut answer = answer::problem(StatusCode::UPGRADE_REQUIRED, error, hint);
    required(answer.headers_mut());
    Box::new((Rejection::UpgradeRequired, answer))
}

fn bad_request(hint: &str) -> Refused {
    let answer = answer::problem(StatusCode::BAD_REQUEST, "bad request", hint);
    Box::new((Rejection::BadRequest, answer))
}
