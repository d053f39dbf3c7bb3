//! A publisher: `POST /broadcast` over one kept-alive connection, opened again when it must be.

use std::net::SocketAddr;

use super::{
    http::{Http, Response},
    now,
};

/// The answer to a publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `cluster`, `local`, or empty.
    pub(crate) scope: String,
    pub(crate) epoch: Option<String>,
    pub(crate) offset: Option<u64>,
    pub(crate) took_ms: u128,
}

impl Answer {
    fn new(response: &Response, took_ms: u128) -> Self {
        let json = response.json();
        Self {
            status: response.status,
            scope: json["scope"].as_str().unwrap_or_default().to_owned(),
            epoch: json["epoch"].as_str().map(ToOwned::to_owned),
            offset: json["offset"].as_u64(),
            took_ms,
        }
    }

    /// Whether every client of the cluster gets it, in order.
    pub(crate) fn is_clustered(&self) -> bool {
        self.status == 202 && self.scope == "cluster"
    }

    /// Whether only the clients of the answering process get it.
    pub(crate) fn is_local(&self) -> bool {
        self.status == 202 && self.scope == "local"
    }
}

/// Publishes to one channel of one process.
#[derive(Debug)]
pub(crate) struct Publisher {
    addr: SocketAddr,
    target: String,
    http: Option<Http>,
}

impl Publisher {
    /// To the default channel.
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, target: "/broadcast".into(), http: None }
    }

    /// To `channel`.
    pub(crate) fn on(addr: SocketAddr, channel: &str) -> Self {
        Self { addr, target: format!("/broadcast?channel={channel}"), http: None }
    }

    /// Publishes; any answer is returned, none fails the test.
    #[track_caller]
    pub(crate) fn publish(&mut self, data: impl AsRef<[u8]>) -> Answer {
        self.try_publish(data).expect("the server answers")
    }

    /// Publishes and asserts that all shards of all processes get it.
    #[track_caller]
    pub(crate) fn publish_to_all(&mut self, data: impl AsRef<[u8]>) -> u64 {
        let answer = self.publish(data);
        assert!(answer.is_clustered(), "{answer:?}");
        answer.offset.expect("a clustered message has an offset")
    }

    /// Publishes; `None` when nobody listens any more.
    #[track_caller]
    pub(crate) fn try_publish(&mut self, data: impl AsRef<[u8]>) -> Option<Answer> {
        let raw = self.request(data.as_ref());
        let start = now();
        if let Some(response) = self.over_the_open_connection(&raw) {
            return Some(Answer::new(&response, start.elapsed().as_millis()));
        }
        let mut http = Http::try_connect(self.addr)?;
        let response = if http.try_send(&raw) { http.try_response()? } else { return None };
        self.keep(http, &response);
        Some(Answer::new(&response, start.elapsed().as_millis()))
    }

    /// The kept connection may have been ended while idle: then another is tried.
    fn over_the_open_connection(&mut self, raw: &[u8]) -> Option<Response> {
        let mut http = self.http.take()?;
        let response = if http.try_send(raw) { http.try_response()? } else { return None };
        self.keep(http, &response);
        Some(response)
    }

    fn keep(&mut self, http: Http, response: &Response) {
        self.http = (!response.header_is("connection", "close")).then_some(http);
    }

    fn request(&self, data: &[u8]) -> Vec<u8> {
        let (target, addr, length) = (&self.target, self.addr, data.len());
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: text/plain\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), data].concat()
    }
}
