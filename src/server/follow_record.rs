//! The record of what a process tells the one that it has replaced: plain data.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    broker::{Announcement, Publication},
    channel::ChannelName,
    limits::ANNOUNCEMENT_COST_BYTES,
    position::Position,
    ws::Kind,
};

/// One thing that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FollowRecord {
    /// A message was published.
    Publication(PublicationRecord),
    /// All shards are to do something.
    Announcement(Announcement),
}

/// A message with its position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PublicationRecord {
    pub(super) channel: ChannelName,
    pub(super) kind: Kind,
    pub(super) data: Bytes,
    #[serde(default)]
    pub(super) position: Option<Position>,
}

/// The bytes of a record beside its names and its payload.
const OVERHEAD_BYTES: usize = 128;

impl FollowRecord {
    /// About the bytes that it takes, and at least those.
    pub(super) fn cost(&self) -> usize {
        match self {
            Self::Publication(PublicationRecord { channel, data, position, .. }) => {
                let epoch = position.as_ref().map_or(0, |position| position.epoch.len());
                OVERHEAD_BYTES + channel.as_str().len() + epoch + data.len()
            }
            Self::Announcement(_) => ANNOUNCEMENT_COST_BYTES,
        }
    }
}

impl From<PublicationRecord> for Publication {
    fn from(record: PublicationRecord) -> Self {
        let PublicationRecord { channel, kind, data, position } = record;
        Self { channel, kind, data, position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    /// A record does not take more than it is reckoned at.
    #[test]
    fn a_record_costs_what_it_is_reckoned_at() {
        let longest = FollowRecord::Publication(PublicationRecord {
            channel: ChannelName::new(&"c".repeat(crate::limits::CHANNEL_NAME_BYTES_MAX)).unwrap(),
            kind: Kind::Binary,
            data: vec![200; 70_000].into(),
            position: Some(Position {
                epoch: "e".repeat(32).as_str().into(),
                offset: crate::limits::OFFSET_MAX,
            }),
        });
        let bytes = record::to_bytes(&longest);
        assert!(bytes.len() <= longest.cost(), "{} of {}", bytes.len(), longest.cost());
        assert_eq!(record::from_bytes::<FollowRecord>(&bytes).unwrap(), longest);
    }
}
