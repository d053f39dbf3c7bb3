//! Which request goes where: one enum of routes, the methods of each, and the right it needs.
//!
//! The listener decides which routes exist: public ones carry `/ws`, `/sse`, `/echo`, `/broadcast`
//! and the client's files, and the admin routes only while every public listener is on loopback; an
//! admin listener carries the admin routes alone. A route that does not exist here is a 404,
//! whatever the method.

use std::{convert::Infallible, future::pending, rc::Rc, time::Duration};

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version, header,
    request,
};
use hyper::body::{Body, Incoming};
use tokio::task::yield_now;

use crate::{
    conn::Endpoint,
    drain::Phase,
    http::{
        access::{Requester, Right, Verdict},
        access_log::AccessLine,
        answer::{self, Answer},
        connection::{answer_body::AnswerBody, peer::Peer, state::ConnectionState},
        context::{Context, Public},
        owner::Owner,
        routes::{
            access_denied::denied_to_administer, address_limits, client, cors, disconnect, drain,
            ops, publish, sse, upgrade,
        },
    },
    limits,
    metrics::{PublishFailure, Rejection},
};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// A route that exists on the listener.
#[derive(Clone, Copy)]
enum Route<'a> {
    Upgrade(&'a Public, Endpoint),
    Events(&'a Public),
    Broadcast(&'a Public),
    File(client::File),
    Live,
    Ready,
    Admin(Page),
}

/// An admin route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Page {
    Index,
    Metrics,
    Stats,
    Drain,
    Undrain,
    Disconnect,
}

/// Answers one request; hyper calls it for one at a time.
pub(in crate::http) async fn answer(
    context: Rc<Context>,
    state: Rc<ConnectionState>,
    peer: Peer,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    state.begin(context.control.barrier.request(), !request.body().is_end_stream());
    if state.is_pipelined() {
        // A client that sends many requests at once keeps no other from its answer.
        yield_now().await;
    }
    let (head, body) = request.into_parts();
    let client = || peer.client_of(&head.headers, &context.settings.trusted_proxies);
    let bytes_in = body.size_hint().exact();
    let path = Some(head.uri.path()).filter(|path| find(&context, path).is_some());
    let what = (&head.method, path);
    let line = AccessLine::begin(context.clock, &state, client, what, bytes_in);
    let mut answer = if state.standing().may_work() || is_probe(head.uri.path()) {
        dispatch(&context, &state, peer, &head, body).await
    } else {
        no_place()
    };
    if !state.has_room_to_answer(answer.body().len()) {
        answer = no_place();
    }
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let is_for_pages = !matches!(find(&context, head.uri.path()), Some(Route::Admin(_)));
        if context.public.is_some() && is_for_pages {
            cors::show(&context.settings.origins, answer.headers_mut(), &head.headers);
        }
        let is_last = state.is_body_unread()
            || state.standing().is_spare()
            || peer.owner.is_none()
            || asks_to_leave_http(&head)
            || state.standing().has_let_go()
            || context.control.phase() >= Phase::Waiting;
        match state.stays_for().filter(|_| !is_last) {
            Some(time) => keep_alive(&head, &state, &mut answer, time),
            None => answer::close(&mut answer),
        }
        if head.version == Version::HTTP_10 && !answer.headers().contains_key(KEEP_ALIVE) {
            // hyper adds the `keep-alive` that was asked for to answers of another version.
            *answer.version_mut() = Version::HTTP_10;
        }
    }
    if let Some(line) = line {
        line.end(&answer);
    }
    Ok(answer.map(|data| AnswerBody::new(data, state)))
}

/// Whether the bytes after this request would not be HTTP if it were granted. An intermediary may
/// assume that it is granted whatever the answer says, and forward bytes that it would otherwise
/// not let through: so nothing after it is read as a request.
fn asks_to_leave_http(head: &request::Parts) -> bool {
    head.method == Method::CONNECT
        || head.headers.contains_key(header::UPGRADE)
        || head.headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || matches!(head.uri.path(), "/ws" | "/sse" | "/echo")
}

/// A request by which a probe learns whether the process lives; answered though all places are
/// held.
fn is_probe(path: &str) -> bool {
    matches!(path, "/livez" | "/healthz" | "/readyz")
}

/// The server's own work is under way on all other connections.
fn no_place() -> Answer {
    let hint = "this process is at work on as many requests as it takes; try again";
    let answer = answer::problem(StatusCode::SERVICE_UNAVAILABLE, "full", hint);
    answer::retry_after(answer, limits::RETRY_AFTER_FULL_SECS)
}

/// Tells how long the connection stays without a request, if the peer lets it.
fn keep_alive(head: &request::Parts, state: &ConnectionState, answer: &mut Answer, time: Duration) {
    let says = |word: &str| {
        let values = head.headers.get_all(header::CONNECTION).iter();
        let mut words = values.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
        words.any(|one| one.trim().eq_ignore_ascii_case(word))
    };
    let stays = match head.version {
        Version::HTTP_11 => !says("close"),
        _ => says("keep-alive"),
    };
    if stays && !answer.headers().contains_key(header::CONNECTION) {
        let value = HeaderValue::try_from(format!("timeout={}", time.as_secs()));
        let headers = answer.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("keep-alive"));
        headers.insert(KEEP_ALIVE, value.expect("digits are valid in a header"));
        state.answer_keeps_alive();
    }
}

async fn dispatch(
    context: &Context,
    state: &ConnectionState,
    peer: Peer,
    head: &request::Parts,
    body: Incoming,
) -> Answer {
    if head.version == Version::HTTP_11 && head.headers.get_all(header::HOST).iter().count() != 1 {
        let hint = "an HTTP/1.1 request has exactly one Host";
        return answer::problem(StatusCode::BAD_REQUEST, "bad_request", hint);
    }
    if !is_plainly_framed(&head.headers) {
        let hint = "the only transfer coding is chunked, once";
        let mut answer =
            answer::problem(StatusCode::NOT_IMPLEMENTED, "unsupported_transfer_coding", hint);
        answer::close(&mut answer);
        return answer;
    }
    let Some(route) = find(context, head.uri.path()) else {
        return not_found(context);
    };
    let requester = Requester {
        peer: peer.address,
        client: peer.client_of(&head.headers, &context.settings.trusted_proxies),
        owner: peer.owner.unwrap_or(Owner::Stranger),
        version: head.version,
        uri: &head.uri,
        headers: &head.headers,
        other_tokens: &[],
    };
    let refused = too_many_handshakes(context, route, &head.method, &requester)
        .or_else(|| refused_origin(context, route, &requester))
        .or_else(|| by_method(context, route, &head.method, &requester));
    if let Some(answer) = refused {
        return answer;
    }
    match route {
        Route::Upgrade(public, endpoint) => {
            let (answer, handover) =
                upgrade::answer(context, public, endpoint, head, requester).await;
            if let Some(handover) = handover {
                state.hand_over(handover);
            }
            answer
        }
        Route::Events(public) => match sse::accept(context, public, head, requester).await {
            Ok(handover) => {
                state.hand_over(handover);
                // The driver ends this and hyper with it, and takes the stream.
                pending().await
            }
            Err(refusal) => refusal,
        },
        Route::Broadcast(public) => {
            let answer = publish::answer(context, public, state, head, requester, body).await;
            if answer.status().is_success() {
                state.standing().has_published();
            }
            answer
        }
        Route::File(file) => client::answer(file, &head.headers),
        Route::Live => ops::live(context),
        Route::Ready => ops::ready(context),
        Route::Admin(page) => admin(context, state, page, &head.method, requester, body).await,
    }
}

/// The answer to a handshake of an address that has begun too many.
fn too_many_handshakes(
    context: &Context,
    route: Route<'_>,
    method: &Method,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let (Route::Upgrade(public, _) | Route::Events(public)) = route else { return None };
    let is_handshake = *method == Method::GET;
    let answer =
        is_handshake.then(|| address_limits::handshake(context, public, requester)).flatten()?;
    Some(upgrade::refuse(public, *requester, (Rejection::RateLimited, answer)))
}

/// The answer to a page of an origin that is not allowed. Its preflights are refused and counted
/// like what they ask for, since a browser then sends nothing else.
fn refused_origin(
    context: &Context,
    route: Route<'_>,
    requester: &Requester<'_>,
) -> Option<Answer> {
    if context.settings.origins.allow(requester.headers) {
        return None;
    }
    match route {
        Route::Upgrade(public, _) | Route::Events(public) => {
            let refused = (Rejection::BadOrigin, cors::bad_origin());
            Some(upgrade::refuse(public, *requester, refused))
        }
        Route::Broadcast(public) => {
            let refused = (PublishFailure::BadOrigin, cors::bad_origin());
            Some(publish::refuse(public, requester, refused))
        }
        Route::File(_) | Route::Live | Route::Ready | Route::Admin(_) => None,
    }
}

/// The answer that follows from the method alone: to a preflight, or to a wrong method.
fn by_method(
    context: &Context,
    route: Route<'_>,
    method: &Method,
    requester: &Requester<'_>,
) -> Option<Answer> {
    let allowed = methods(route);
    if allowed.contains(method) {
        return None;
    }
    let refused = match route {
        Route::Broadcast(_) => cors::refused_to_publish(&context.settings.access, requester),
        _ => None,
    };
    let is_for_pages = context.public.is_some() && !matches!(route, Route::Admin(_));
    Some(match refused {
        Some(refused) => refused,
        None if *method == Method::OPTIONS && is_for_pages => cors::preflight(allowed),
        None => method_not_allowed(allowed),
    })
}

/// Whether the body is sent as it is, or in chunks, and in no other way. hyper accepts anything
/// that ends with "chunked", and passes on a coded body as if it were not.
fn is_plainly_framed(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let is_chunked = |coding: &HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    codings.next().is_none_or(is_chunked) && codings.next().is_none()
}

fn find<'a>(context: &'a Context, path: &str) -> Option<Route<'a>> {
    let public = context.public.as_ref();
    let route = match path {
        "/ws" => Route::Upgrade(public?, Endpoint::Ws),
        "/sse" => Route::Events(public?),
        "/echo" if context.settings.echo => Route::Upgrade(public?, Endpoint::Echo),
        "/broadcast" => Route::Broadcast(public?),
        "/client.js" => public.map(|_| Route::File(client::File::Script))?,
        "/client.d.ts" => public.map(|_| Route::File(client::File::Types))?,
        "/livez" | "/healthz" => Route::Live,
        "/readyz" => Route::Ready,
        "/" => Route::Admin(Page::Index),
        "/metrics" => Route::Admin(Page::Metrics),
        "/stats" => Route::Admin(Page::Stats),
        "/admin/drain" => Route::Admin(Page::Drain),
        "/admin/undrain" => Route::Admin(Page::Undrain),
        "/admin/disconnect" => Route::Admin(Page::Disconnect),
        _ => return None,
    };
    let exists = match route {
        Route::Admin(_) => public.is_none() || context.settings.admin_on_public,
        _ => true,
    };
    exists.then_some(route)
}

/// A hint on where to ask instead: on a public listener its public routes, on an admin listener the
/// list of its routes.
fn not_found(context: &Context) -> Answer {
    let echo = if context.settings.echo { ", /echo" } else { "" };
    let hint = match context.public {
        None => "GET / lists what this admin listener has".to_owned(),
        Some(_) => format!(
            "here are GET /ws, /sse{echo}, /client.js, /livez and /readyz, and POST /broadcast; \
             for the admin routes there is --admin-listen"
        ),
    };
    answer::problem(StatusCode::NOT_FOUND, "not_found", &hint)
}

fn methods(route: Route<'_>) -> &'static [Method] {
    match route {
        Route::Upgrade(..) | Route::Events(_) => &[Method::GET],
        Route::Broadcast(_) | Route::Admin(Page::Disconnect | Page::Undrain) => &[Method::POST],
        Route::Admin(Page::Drain) => &[Method::GET, Method::HEAD, Method::POST],
        Route::File(_) | Route::Live | Route::Ready | Route::Admin(_) => {
            &[Method::GET, Method::HEAD]
        }
    }
}

async fn admin(
    context: &Context,
    state: &ConnectionState,
    page: Page,
    method: &Method,
    requester: Requester<'_>,
    body: Incoming,
) -> Answer {
    let right = match (*method == Method::POST, context.public.is_some()) {
        (true, false) => Right::Administer,
        (true, true) => Right::AdministerInPublic,
        (false, false) => Right::Look,
        (false, true) => Right::LookInPublic,
    };
    let rules = &context.settings.access;
    let verdict = rules.judge(right, &requester);
    if verdict != Verdict::Allowed {
        let is_bad = rules.presented(&requester) == Some(false);
        let past = is_bad.then(|| address_limits::bad_api_token(context, &requester)).flatten();
        return past.unwrap_or_else(|| denied_to_administer(verdict));
    }
    context.ops.pacer.next().await;
    match page {
        Page::Index => ops::index(context),
        Page::Metrics => ops::metrics(context),
        Page::Stats => ops::stats(context),
        Page::Drain if *method == Method::POST => {
            drain::steer(context, state, requester.uri.query(), body).await
        }
        Page::Drain => drain::look(context),
        Page::Undrain => drain::undrain(context, state, requester.uri.query(), body).await,
        Page::Disconnect => disconnect::answer(context, state, requester.uri.query(), body).await,
    }
}

fn method_not_allowed(allowed: &[Method]) -> Answer {
    let allow = allowed.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    let hint = format!("this route takes {allow}");
    let mut answer = answer::problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", &hint);
    let allow = HeaderValue::try_from(allow).expect("method names are valid in a header");
    answer.headers_mut().insert(header::ALLOW, allow);
    answer
}
