//! Event streams: from `GET /sse` to the head of an answer without an end, or to why not.
//!
//! A client that listens over HTTP is a client like any other, so the connection leaves hyper as it
//! does after a 101: there is no body that hyper would poll, copy and cut into chunks for each
//! client. The head is written here, the stream ends with the connection, and the rest is left to
//! the table of clients. The steps and their order are those of a handshake; see `upgrade`.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, request};

use crate::{
    broker::Position,
    channel::ChannelName,
    conn::Arrival,
    http::{
        access::Requester,
        answer::{self, Answer},
        connection::handover::Handover,
        context::{Admission, Context, Public, Purpose},
        credentials,
        routes::{
            cors, handshake_log,
            listener_rights::{self, Refused},
            position, query,
            upgrade::{self, Entered},
        },
    },
    hub::Encoding,
};

/// The header by which a browser resumes a broken stream: the id of its last event.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Accepts a stream; else the answer that refuses it.
pub(in crate::http) async fn accept(
    context: &Context,
    public: &Public,
    head: &request::Parts,
    requester: Requester<'_>,
) -> Result<Handover, Answer> {
    let accepted = async {
        let query = head.uri.query();
        let token = query::token(query).map_err(upgrade::bad_query)?;
        let (rules, origins) = (&context.settings.access, &context.settings.origins);
        let tokens = credentials::of_browser(rules, origins, &head.headers, token.as_ref());
        let shown = Requester { other_tokens: &tokens, ..requester };
        let authority = listener_rights::authority(context, &shown).await?;
        upgrade::check_names(query, &requester)?;
        let last_id = head.headers.get(LAST_EVENT_ID).map_or(&[][..], |value| value.as_bytes());
        let wanted = query::event_stream(query, last_id).map_err(upgrade::bad_query)?;
        listener_rights::check(context, &authority, std::slice::from_ref(&wanted))?;
        let Entered { guard, address_guard } = upgrade::enter(context, public, &requester)?;
        let admitted = (public.admit)(vec![wanted], Encoding::Sse).await;
        let Admission { ticket, positions } = admitted.map_err(upgrade::not_admitted)?;
        upgrade::welcome(context)?;
        let forwarded = handshake_log::accepted(&requester, &positions);
        let mut cors_headers = HeaderMap::new();
        cors::show(&context.settings.origins, &mut cors_headers, &head.headers);
        let arrival = Arrival {
            publisher: None,
            credential: authority.into_credential(),
            client: requester.client,
            forwarded,
            guard,
            address_guard,
        };
        Ok(Handover {
            purpose: Purpose::Client(ticket),
            encoding: Encoding::Sse,
            arrival,
            head: Some(stream_head(&positions, &cors_headers, context.clock.unix_time())),
        })
    };
    accepted.await.map_err(|refused: Refused| upgrade::refuse(public, requester, *refused))
}

/// The head of the answer, with the headers without which browsers show it to no page. A proxy that
/// compressed the stream would hold events back until its window is full: none may transform it.
fn stream_head(
    positions: &[(ChannelName, Position)],
    cors_headers: &HeaderMap,
    unix_time: Duration,
) -> Bytes {
    let mut head = String::from(
        "HTTP/1.1 200 OK\r\n\
         Content-Type: text/event-stream\r\n\
         Cache-Control: no-store, no-transform\r\n\
         Connection: close\r\n\
         X-Accel-Buffering: no\r\n",
    );
    let mut put = |name: &str, value: &str| {
        write!(head, "{name}: {value}\r\n").expect("memory takes everything");
    };
    for (name, value) in cors_headers {
        put(name.as_str(), value.to_str().expect("origins that are listed are ASCII"));
    }
    put("Date", &answer::date(unix_time));
    let value = position::value(positions).filter(|value| !value.is_empty());
    if let Some(value) = value.as_ref().and_then(|value| value.to_str().ok()) {
        put(position::HEADER.as_str(), value);
    }
    head.push_str("\r\n");
    head.into()
}
