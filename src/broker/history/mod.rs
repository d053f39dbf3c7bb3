//! Recently published messages, by channel, within bounds: the memory that resumes are served from.
//!
//! The embedded broker's sequencer is one of these; with Redis a process keeps one, fed by its
//! subscribers and filled from Redis' streams. Pure: time comes in as a value, and nothing here
//! waits.

mod eviction_order;
mod histories;
mod ring;

pub use self::histories::{Evicted, HistorySettings};
pub(super) use self::{
    histories::{
        ChannelPart, Histories, HistoriesEnd, HistoriesWalk, PartBounds, StagedHistories,
        merging::{Continuity, Reading},
    },
    ring::{HistoryMessage, Ring, StreamEntry},
};
