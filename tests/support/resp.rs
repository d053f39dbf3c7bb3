//! A Redis client of a few lines, for what any program on the same Redis may do: `PUBLISH`.

use testkit::resp::command;

use super::{
    PATIENCE,
    http::{Arrival, Http},
};

/// One connection to Redis.
#[derive(Debug)]
pub(crate) struct Resp(Http);

impl Resp {
    /// Connects.
    pub(crate) fn connect(address: &str) -> Self {
        Self(Http::connect(address.parse().expect("an address and a port")))
    }

    /// Sends a command and returns its first reply line, without the type byte's meaning.
    pub(crate) fn command(&mut self, words: &[&[u8]]) -> String {
        self.0.send(command(words));
        loop {
            if let Some(line) = self.0.inbox.take_through(b"\r\n") {
                return String::from_utf8_lossy(&line).trim_end().to_owned();
            }
            let arrival = self.0.arrival(PATIENCE);
            assert_eq!(arrival, Arrival::Bytes, "Redis answers");
        }
    }

    /// `PUBLISH channel data`: how many subscribers it reached.
    pub(crate) fn publish(&mut self, channel: &str, data: &[u8]) -> u64 {
        let reply = self.command(&[b"PUBLISH", channel.as_bytes(), data]);
        let count = reply.strip_prefix(':').and_then(|count| count.parse().ok());
        count.unwrap_or_else(|| panic!("PUBLISH answers with a number, not {reply:?}"))
    }
}
