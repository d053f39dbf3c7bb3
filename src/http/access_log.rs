//! A line about each request for `--access-log`, written when it is answered, or broken off.
//!
//! A request that becomes a client has its line when the client ends (`conn`). A line has nothing
//! that a stranger can make up but a token's subject: no query, no path that is no route's, no
//! method of its own. Each of them may hold a token, put there by mistake.

use std::rc::Rc;

use crate::{
    clock::{Clock, Millis},
    http::{answer::Answer, connection::state::ConnectionState},
    peer::ClientAddress,
    telemetry::{access, access_is_logged},
};
use http::{Method, StatusCode};

/// The subject of the token by which a request was made: an extension of its answer, for its line.
#[derive(Clone)]
pub(super) struct Subject(pub(super) Box<str>);

/// A request under way.
pub(super) struct AccessLine {
    clock: Clock,
    since: Millis,
    client: ClientAddress,
    method: Method,
    path: Box<str>,
    bytes_in: Option<u64>,
    state: Rc<ConnectionState>,
    is_written: bool,
}

impl AccessLine {
    /// A request begins: to the path of a route, if it has one, and with so many bytes of a body,
    /// if that is known.
    pub(super) fn begin(
        clock: Clock,
        state: &Rc<ConnectionState>,
        client: impl FnOnce() -> ClientAddress,
        (method, path): (&Method, Option<&str>),
        bytes_in: Option<u64>,
    ) -> Option<Self> {
        access_is_logged().then(|| Self {
            clock,
            since: clock.now(),
            client: client(),
            method: method.clone(),
            path: path.unwrap_or(UNKNOWN).into(),
            bytes_in,
            state: state.clone(),
            is_written: false,
        })
    }

    /// It is answered.
    pub(super) fn end(mut self, answer: &Answer) {
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            self.write(Some(answer));
        }
        self.is_written = true;
    }

    fn write(&self, answer: Option<&Answer>) {
        let subject = answer.and_then(|answer| answer.extensions().get::<Subject>());
        access!(
            address = %self.client,
            sub = subject.map(|subject| &*subject.0),
            method = known(&self.method),
            path = &*self.path,
            status = answer.map(|answer| answer.status().as_u16()),
            bytes_in = self.bytes_in,
            bytes_out = answer.map(|answer| answer.body().len()),
            seconds = (self.clock.now() - self.since).as_millis() as f64 / 1000.0,
            "{}",
            if answer.is_some() { "request" } else { "request broken off" }
        );
    }
}

impl Drop for AccessLine {
    /// Dropped before its answer: an event stream has begun, or the connection is lost or late.
    fn drop(&mut self) {
        if !self.is_written && !self.state.is_ours() {
            self.write(None);
        }
    }
}

/// A request that could not be read is answered.
pub fn unreadable(client: ClientAddress, bytes_out: usize) {
    if access_is_logged() {
        access!(address = %client, bytes_out, "request unreadable");
    }
}

/// In place of a path or method that is not known here.
const UNKNOWN: &str = "(unknown)";

/// The method, if it is one of RFC 9110 §9.3 or RFC 5789.
fn known(method: &Method) -> &str {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::DELETE
        | Method::CONNECT
        | Method::OPTIONS
        | Method::TRACE
        | Method::PATCH => method.as_str(),
        _ => UNKNOWN,
    }
}
