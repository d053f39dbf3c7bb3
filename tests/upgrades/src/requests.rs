//! HTTP connections that an upgrade finds idle, or amid the head of a request.
//!
//! Each lives through all upgrades, and is asked something after each: on the same connection.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use serde::Serialize;
use testkit::http::Connection;

const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// The result.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Answered {
    pub(crate) answered: u64,
    /// By status, or the kind of error.
    pub(crate) failed: BTreeMap<String, u64>,
}

/// The connections.
#[derive(Debug)]
pub(crate) struct Requests {
    request: Vec<u8>,
    connections: Vec<Connection>,
    rounds: usize,
    pub(crate) answered: Answered,
}

impl Requests {
    /// Opens them, and asks each once.
    pub(crate) fn open(address: SocketAddr, count: usize) -> Result<Self> {
        let request = format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        let open = |_| {
            let mut connection = Connection::open(address, ANSWER_DEADLINE)?;
            connection.ask(&request)?;
            Ok(connection)
        };
        let connections: std::io::Result<Vec<_>> = (0..count).map(open).collect();
        let connections = connections.context("connections for requests")?;
        Ok(Self { request, connections, rounds: 0, answered: Answered::default() })
    }

    /// Every second one begins a request.
    pub(crate) fn before_an_upgrade(&mut self) {
        self.rounds += 1;
        for at in (0..self.connections.len()).step_by(2) {
            let cut = self.cut(at);
            // One that is gone is counted below.
            let _ = self.connections[at].begin(&self.request[..cut]);
        }
    }

    /// All get an answer.
    pub(crate) fn after_an_upgrade(&mut self) {
        for at in 0..self.connections.len() {
            let rest = &self.request[self.cut(at)..];
            let word = match self.connections[at].ask(rest) {
                Ok(answer) if answer.status == 200 => {
                    self.answered.answered += 1;
                    continue;
                }
                Ok(answer) => answer.status.to_string(),
                Err(error) => error.kind().to_string(),
            };
            *self.answered.failed.entry(word).or_default() += 1;
        }
    }

    /// How much of the request was sent before the upgrade: each time, and each, another part.
    fn cut(&self, at: usize) -> usize {
        if at.is_multiple_of(2) { 1 + (7 * at + self.rounds) % (self.request.len() - 1) } else { 0 }
    }
}
