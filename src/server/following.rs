//! A process that another one has replaced, and that still has clients, follows that one.

use std::sync::Arc;

use tracing::warn;

use super::{follow_record::FollowRecord, process::Process};
use crate::{
    handover::{Link, LinkError, Packet, Sheet},
    limits::FOLLOWING_LOOK_INTERVAL,
    record,
};

/// Gives the clients that are left what the process at the other end of `link` says. Resolves when
/// there is nothing to be followed any more: these clients are to come to that process then.
///
/// # Cancel safety
/// May be dropped: nothing was begun then.
pub(super) async fn follow(process: &Arc<Process>, link: &mut Link) {
    loop {
        let packet = match link.receive(FOLLOWING_LOOK_INTERVAL).await {
            Ok(packet) => packet,
            Err(LinkError::TimedOut) => continue,
            Err(error) => {
                warn!(%error, "the new process is lost sight of");
                return;
            }
        };
        match read(packet) {
            Ok(records) => records.into_iter().for_each(|record| carry_out(process, record)),
            Err(error) => {
                warn!(error, "the new process is not understood");
                return;
            }
        }
    }
}

fn read(Packet { bytes, descriptors }: Packet) -> Result<Vec<FollowRecord>, String> {
    let Some(sheet) = descriptors.into_iter().next() else {
        return record::from_bytes(&bytes).map_err(|error| error.to_string());
    };
    let content = Sheet::received(sheet).map(crate::handover::Content::Sheet);
    let bytes = content.and_then(crate::handover::Content::into_bytes);
    let bytes = bytes.map_err(|error| error.to_string())?;
    record::from_bytes(&bytes).map_err(|error| error.to_string())
}

fn carry_out(process: &Arc<Process>, record: FollowRecord) {
    match record {
        FollowRecord::Publication(publication) => process.broker.follow(&publication.into()),
        FollowRecord::Announcement(announcement) => {
            for sink in &*process.sinks {
                sink.announce(announcement.clone(), None);
            }
        }
    }
}
