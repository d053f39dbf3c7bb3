//! The handshake: from a request for a WebSocket to the 101, or to the reason why not.
//!
//! The order matters. The drain guard is taken before the phase is looked at, so that the drain
//! either counts the client or the client sees the drain; the channels are subscribed before the
//! 101 leaves, so that nothing published after it is missed.

use http::{HeaderMap, HeaderValue, StatusCode, header, request};

use crate::{
    admission::AddressGuard,
    broker::{Position, PublisherClass},
    channel::ChannelName,
    conn::{Arrival, Credential, Endpoint, SubscribeRequest},
    drain::{Guard, Phase},
    http::{
        access::Requester,
        answer::{self, Answer},
        connection::handover::Handover,
        context::{Admission, Context, NotAdmitted, Public, Purpose},
        credentials,
        routes::{
            address_limits, handshake_log,
            listener_rights::{self, Refused},
            position,
            query::{self, BadQuery, Mistake},
        },
    },
    hub::Encoding,
    limits,
    metrics::Rejection,
    ws::{
        extension::{self, Agreement},
        handshake::{self, HandshakeRefusal, VERSION},
    },
};

/// The content of a valid handshake.
struct UpgradeRequest {
    accept: HeaderValue,
    deflate: Option<Agreement>,
    /// The subprotocol that is chosen.
    protocol: Option<&'static str>,
    wanted: Vec<SubscribeRequest>,
    publisher: Option<PublisherClass>,
    credential: Option<Credential>,
}

/// Answers a handshake; with `Some` the answer is the 101.
pub(in crate::http) async fn answer(
    context: &Context,
    public: &Public,
    endpoint: Endpoint,
    head: &request::Parts,
    requester: Requester<'_>,
) -> (Answer, Option<Handover>) {
    let accepted = async {
        let request = understand(context, endpoint, head, requester).await?;
        let Entered { guard, address_guard } = enter(context, public, &requester)?;
        let is_v1 = request.protocol == Some(handshake::V1);
        let encoding = match (&request.deflate, is_v1) {
            (None, false) => Encoding::Plain,
            (None, true) => Encoding::V1,
            (Some(deflate), false) => Encoding::Deflate(deflate.window),
            (Some(deflate), true) => Encoding::V1Deflate(deflate.window),
        };
        let UpgradeRequest { accept, deflate, protocol, wanted, publisher, credential } = request;
        let (purpose, positions) = match endpoint {
            Endpoint::Ws => {
                let admitted = (public.admit)(wanted, encoding).await;
                let Admission { ticket, positions } = admitted.map_err(not_admitted)?;
                (Purpose::Client(ticket), positions)
            }
            Endpoint::Echo => (Purpose::Echo, Vec::new()),
        };
        // Admission may have taken a second; a 503 now is better than a 1012 right after.
        welcome(context)?;
        let forwarded = handshake_log::accepted(&requester, &positions);
        let client = requester.client;
        let arrival = Arrival { publisher, credential, client, forwarded, guard, address_guard };
        let handover = Handover { purpose, encoding, arrival, head: None };
        Ok((switching(accept, deflate, protocol, &positions), Some(handover)))
    };
    accepted.await.unwrap_or_else(|refused: Refused| (refuse(public, requester, *refused), None))
}

/// Counts a refusal; its answer.
pub(in crate::http) fn refuse(
    public: &Public,
    requester: Requester<'_>,
    (reason, answer): (Rejection, Answer),
) -> Answer {
    handshake_log::refused(&requester, reason.word(), &answer);
    public.metrics.handshakes_rejected.add(reason as usize, 1);
    answer
}

/// Checks all that the request says.
async fn understand(
    context: &Context,
    endpoint: Endpoint,
    head: &request::Parts,
    requester: Requester<'_>,
) -> Result<UpgradeRequest, Refused> {
    let accept = handshake::check(&head.method, head.version, &head.headers).map_err(refusal)?;
    let (query, settings) = (head.uri.query(), &context.settings);
    let token = query::token(query).map_err(bad_query)?;
    let tokens =
        credentials::of_browser(&settings.access, &settings.origins, &head.headers, token.as_ref());
    let protocol = protocol(endpoint, &head.headers)?;
    let requester = Requester { other_tokens: &tokens, ..requester };
    let authority = listener_rights::authority(context, &requester).await?;
    let wanted = match endpoint {
        Endpoint::Ws => {
            check_names(query, &requester)?;
            // Only such a client can subscribe later.
            if protocol == Some(handshake::V1) && query::wants_none(query) {
                listener_rights::check_without_channel(context, &authority)?;
                Vec::new()
            } else {
                query::wanted(query).map_err(bad_query)?
            }
        }
        Endpoint::Echo => Vec::new(),
    };
    listener_rights::check(context, &authority, &wanted)?;
    let may_publish = settings.client_publish.is_on() && endpoint == Endpoint::Ws;
    let publisher = may_publish.then(|| authority.class_of_client(context, &requester)).flatten();
    let accept = HeaderValue::try_from(accept.accept_key)
        .expect("an accept key is base64, which is valid in a header");
    let deflate = settings.compression.then(|| extension::negotiate(&head.headers)).flatten();
    let credential = authority.into_credential();
    Ok(UpgradeRequest { accept, deflate, protocol, wanted, publisher, credential })
}

/// The subprotocol that is spoken, if any. An offer of tokens alone would end badly: browsers close
/// a connection none of whose offers was chosen, and a token is never repeated.
fn protocol(endpoint: Endpoint, headers: &HeaderMap) -> Result<Option<&'static str>, Refused> {
    let known: &[&'static str] = match endpoint {
        Endpoint::Ws => &[handshake::V1, handshake::PLAIN],
        Endpoint::Echo => &[handshake::PLAIN],
    };
    let chosen = handshake::chosen_protocol(headers, known);
    if chosen.is_none() && handshake::offered_tokens(headers).next().is_some() {
        let hint = "only a token is offered as a subprotocol: offer wsbcast.v1 or wsbcast.plain \
                    beside it, which is then chosen";
        return Err(refused(StatusCode::BAD_REQUEST, Rejection::BadRequest, hint));
    }
    Ok(chosen)
}

/// A name that is nearly one of ours must not be ignored; others are.
pub(in crate::http) fn check_names(
    query: Option<&str>,
    requester: &Requester<'_>,
) -> Result<(), Refused> {
    let ignored = query::nearly_known(query).map_err(bad_query)?;
    if !ignored.is_empty() {
        handshake_log::ignored(requester, &ignored);
    }
    Ok(())
}

/// The guards of a client that is let in.
pub(in crate::http) struct Entered {
    pub(in crate::http) guard: Guard,
    pub(in crate::http) address_guard: Option<AddressGuard>,
}

/// Takes the drain guard, then looks whether a new client is welcome, and one more of its address.
pub(in crate::http) fn enter(
    context: &Context,
    public: &Public,
    requester: &Requester<'_>,
) -> Result<Entered, Refused> {
    let barrier = &context.control.barrier;
    let guard = barrier.client();
    welcome(context)?;
    if barrier.clients() > context.settings.connections_max {
        return Err(full("the limit of --max-connections is reached; try again"));
    }
    let address_guard = address_limits::enter(public, requester)
        .map_err(|answer| Box::new((Rejection::AddressFull, *answer)))?;
    Ok(Entered { guard, address_guard })
}

fn full(hint: &str) -> Refused {
    unavailable(Rejection::Full, hint, limits::RETRY_AFTER_FULL_SECS)
}

/// 503, and what to do about it.
pub(in crate::http) fn not_admitted(why: NotAdmitted) -> Refused {
    match why {
        NotAdmitted::Behind => {
            let hint =
                "this process has not got as far as the position yet; try again, or another one";
            unavailable(Rejection::Behind, hint, limits::RETRY_AFTER_FULL_SECS)
        }
        NotAdmitted::Busy => full("too many channels are being asked for at once; try again"),
        NotAdmitted::TooManyChannels => {
            let free = limits::CHANNELS_FREE;
            full(&format!(
                "a shard has no room for more than {free} channels of a client; try again"
            ))
        }
    }
}

/// Whether the phase lets new clients in.
pub(in crate::http) fn welcome(context: &Context) -> Result<(), Refused> {
    if context.control.phase() < Phase::Waiting {
        return Ok(());
    }
    let hint = "this process is shutting down; connect again, to another one";
    let mut refused = unavailable(Rejection::Draining, hint, limits::RETRY_AFTER_DRAINING_SECS);
    answer::close(&mut refused.1);
    Err(refused)
}

fn switching(
    accept: HeaderValue,
    deflate: Option<Agreement>,
    protocol: Option<&'static str>,
    positions: &[(ChannelName, Position)],
) -> Answer {
    let mut answer = Answer::default();
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(deflate) = deflate {
        headers.insert(header::SEC_WEBSOCKET_EXTENSIONS, deflate.answer());
    }
    if let Some(protocol) = protocol {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    if let Some(value) = position::value(positions).filter(|value| !value.is_empty())
        && value.len() <= limits::POSITION_HEADER_BYTES_MAX
    {
        headers.insert(position::HEADER, value);
    }
    answer
}

fn refusal(refusal: HandshakeRefusal) -> Refused {
    match refusal {
        HandshakeRefusal::NotUpgrade => {
            let hint = "this is a WebSocket endpoint: connect with a WebSocket client";
            let required = |headers: &mut HeaderMap| {
                headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            };
            upgrade_required(Rejection::UpgradeRequired, hint, required)
        }
        HandshakeRefusal::WrongVersion => {
            let hint = "only WebSocket version 13 is spoken here";
            let required = |headers: &mut HeaderMap| {
                headers.insert(header::SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
            };
            upgrade_required(Rejection::WrongVersion, hint, required)
        }
        HandshakeRefusal::Bad(hint) => {
            refused(StatusCode::BAD_REQUEST, Rejection::BadRequest, hint)
        }
    }
}

fn upgrade_required(
    reason: Rejection,
    hint: &str,
    required: impl FnOnce(&mut HeaderMap),
) -> Refused {
    let mut refused = refused(StatusCode::UPGRADE_REQUIRED, reason, hint);
    required(refused.1.headers_mut());
    refused
}

fn unavailable(reason: Rejection, hint: &str, retry_after_secs: u32) -> Refused {
    let (reason, answer) = *refused(StatusCode::SERVICE_UNAVAILABLE, reason, hint);
    Box::new((reason, answer::retry_after(answer, retry_after_secs)))
}

/// The answer's word is the one that is counted.
fn refused(status: StatusCode, reason: Rejection, hint: &str) -> Refused {
    let word = reason.word();
    Box::new((reason, answer::problem(status, word, hint)))
}

pub(in crate::http) fn bad_query(bad: BadQuery) -> Refused {
    let reason = match bad.mistake {
        Mistake::Request => Rejection::BadRequest,
        Mistake::Channel => Rejection::BadChannel,
        Mistake::Position => Rejection::BadPosition,
        Mistake::TooManyChannels => Rejection::TooManyChannels,
    };
    refused(StatusCode::BAD_REQUEST, reason, &bad.hint)
}
