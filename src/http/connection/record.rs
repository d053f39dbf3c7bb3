//! HTTP connections as plain data, for another process that goes on with them.
//!
//! A connection is its descriptor and what is recorded here. Only one to which nothing is owed is
//! recorded: nothing of a request of its was parsed, so its bytes are parsed anew.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::peer::{Announced, ClientAddress};

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionRecord {
    /// The listener that it has come through, by its address; empty if there is only one.
    #[serde(default)]
    pub listener: String,
    /// Its bytes that were read and not parsed.
    #[serde(default)]
    pub(super) unparsed: Bytes,
    /// `None`: what a proxy announces is still to come, and `unparsed` begins it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) announced: Option<AnnouncedRecord>,
    pub(super) awaited: Awaited,
    /// So long it has been awaited.
    pub(super) since_ago_ms: u64,
    pub(super) accepted_ago_ms: u64,
    /// An authorised publisher has published by it.
    #[serde(default)]
    pub(super) has_published: bool,
}

/// The bytes that a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Awaited {
    /// Its first request, with all that comes before it.
    FirstRequest,
    /// A further request.
    NextRequest,
    /// The rest of a further request's head.
    Head,
}

/// The client that a proxy has announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum AnnouncedRecord {
    Nothing,
    Client(AnnouncedClient),
    Unknown,
}

/// The address of an announced client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct AnnouncedClient {
    pub(super) address: ClientAddress,
}

impl ConnectionRecord {
    /// The bytes that are parsed before any others.
    #[must_use]
    pub fn unparsed(&self) -> &Bytes {
        &self.unparsed
    }

    /// The client that a proxy has announced; `None`: that is still to come.
    #[must_use]
    pub fn announced(&self) -> Option<Announced> {
        Some(match self.announced? {
            AnnouncedRecord::Nothing => Announced::Nothing,
            AnnouncedRecord::Client(AnnouncedClient { address }) => Announced::Client(address),
            AnnouncedRecord::Unknown => Announced::Unknown,
        })
    }
}

impl From<Announced> for AnnouncedRecord {
    fn from(announced: Announced) -> Self {
        match announced {
            Announced::Nothing => Self::Nothing,
            Announced::Client(address) => Self::Client(AnnouncedClient { address }),
            Announced::Unknown => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::recordings;

    /// Records of this version are read by every later one.
    #[test]
    fn recordings_are_read() {
        let first = ConnectionRecord {
            listener: "127.0.0.1:8000".into(),
            unparsed: "PROXY TCP4 ".into(),
            announced: None,
            awaited: Awaited::FirstRequest,
            since_ago_ms: 7_000,
            accepted_ago_ms: 8_000,
            has_published: false,
        };
        recordings::check("http/first", &first);
        let address = ClientAddress::Ip([192, 0, 2, 7].into());
        let next = ConnectionRecord {
            listener: "unix:/run/wsbcast.sock".into(),
            unparsed: Bytes::new(),
            announced: Some(AnnouncedRecord::Client(AnnouncedClient { address })),
            awaited: Awaited::NextRequest,
            has_published: true,
            ..first
        };
        recordings::check("http/next", &next);
        let head = ConnectionRecord {
            listener: String::new(),
            unparsed: "POST /broad".into(),
            announced: Some(AnnouncedRecord::Nothing),
            awaited: Awaited::Head,
            has_published: false,
            ..next
        };
        recordings::check("http/head", &head);
        let unknown = ConnectionRecord { announced: Some(AnnouncedRecord::Unknown), ..head };
        recordings::check("http/unknown", &unknown);
    }
}
