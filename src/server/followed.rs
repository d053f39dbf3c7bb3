//! The clients that a replaced process still has get what this one publishes.
//!
//! Without Redis an old process learns of publications from the new one alone. For this one it is
//! a sink beside the shards, and it never makes a publisher wait: one that falls too far behind, or
//! ends, is followed by nobody any more, closes its clients, and these come here.

use std::{
    collections::VecDeque,
    io::Write as _,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::future::{BoxFuture, FutureExt as _, ready};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, warn};

use super::{
    follow_record::{FollowRecord, PublicationRecord},
    predecessor::Predecessor,
};
use crate::{
    broker::{Announcement, Missed, Publication, Sink},
    channel::ChannelName,
    handover::{Link, LinkError, SheetWriter},
    limits::{FOLLOWED_BYTES_MAX, FOLLOWED_SEND_DEADLINE, HANDOVER_INLINE_BYTES_MAX},
    record,
};

/// The way to a replaced process.
#[derive(Debug, Default)]
pub(super) struct Followed {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

/// Records on their way.
#[derive(Debug, Default)]
struct Waiting {
    /// Somebody takes them.
    is_followed: bool,
    records: VecDeque<FollowRecord>,
    bytes: usize,
}

impl Followed {
    /// The way to the old process, if that one follows this one.
    pub(super) fn of(old: Option<&Predecessor>) -> Option<Arc<Self>> {
        old.filter(|old| old.follows).map(|_| Arc::default())
    }

    /// From here on everything is for the process at the other end of `link`; the future sends it
    /// there, and ends when that one does.
    pub(super) fn by(self: Arc<Self>, link: Link) -> impl Future<Output = ()> {
        self.lock().is_followed = true;
        async move {
            let ended = tokio::select! {
                () = link.disturbed() => LinkError::Closed,
                error = self.send_all(&link) => error,
            };
            *self.lock() = Waiting::default();
            match ended {
                LinkError::Closed => debug!("the old process has ended"),
                error => warn!(%error, "the old process follows no longer, and closes its clients"),
            }
        }
    }

    async fn send_all(&self, link: &Link) -> LinkError {
        loop {
            let Some(records) = self.take() else { return LinkError::TimedOut };
            if records.is_empty() {
                self.filled.notified().await;
                continue;
            }
            if let Err(error) = send(link, &records).await {
                return error;
            }
        }
    }

    /// Records of one message, or a single one that is longer; none: it is followed no longer.
    fn take(&self) -> Option<Vec<FollowRecord>> {
        let waiting = &mut *self.lock();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while let Some(next) = waiting.records.front() {
            let cost = next.cost();
            if !taken.is_empty() && bytes + cost > HANDOVER_INLINE_BYTES_MAX {
                break;
            }
            bytes += cost;
            taken.extend(waiting.records.pop_front());
        }
        waiting.bytes -= bytes;
        waiting.is_followed.then_some(taken)
    }

    fn put(&self, record: FollowRecord) {
        let waiting = &mut *self.lock();
        if !waiting.is_followed {
            return;
        }
        waiting.bytes += record.cost();
        waiting.records.push_back(record);
        if waiting.bytes > FOLLOWED_BYTES_MAX {
            *waiting = Waiting::default();
        }
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A panic elsewhere leaves a queue of whole records.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn send(link: &Link, records: &[FollowRecord]) -> Result<(), LinkError> {
    let bytes = record::to_bytes(&records);
    if bytes.len() <= HANDOVER_INLINE_BYTES_MAX {
        return link.send(&bytes, &[], FOLLOWED_SEND_DEADLINE).await;
    }
    let mut sheet = SheetWriter::new("wsbcast-publication")?;
    sheet.write_all(&bytes)?;
    let sheet = sheet.seal()?;
    // Its place says that there is a sheet.
    link.send(&[0], &[sheet.as_fd()], FOLLOWED_SEND_DEADLINE).await
}

impl Sink for Followed {
    fn has_room(&self, _bytes: usize) -> bool {
        true
    }

    fn deliver(&self, publication: Publication) {
        let Publication { channel, kind, data, position } = publication;
        self.put(FollowRecord::Publication(PublicationRecord { channel, kind, data, position }));
    }

    fn gap(&self, _channel: &ChannelName, _missed: Missed) {
        // Without Redis nothing is lost between processes.
    }

    fn announce(&self, announcement: Announcement, count: Option<oneshot::Sender<usize>>) {
        self.put(FollowRecord::Announcement(announcement));
        if let Some(count) = count {
            // An error means that nobody waits for the answer.
            let _ = count.send(0);
        }
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        ready(()).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Kind;

    fn publication(bytes: usize) -> Publication {
        Publication {
            channel: ChannelName::default_channel(),
            kind: Kind::Binary,
            data: vec![0; bytes].into(),
            position: None,
        }
    }

    /// A process that does not take what is for it costs no more than its bound, and is given up.
    #[test]
    fn a_process_that_takes_nothing_is_given_up() {
        let followed = Followed::default();
        followed.deliver(publication(10));
        assert!(followed.take().is_none(), "nobody follows yet");
        followed.lock().is_followed = true;
        followed.deliver(publication(10));
        followed.deliver(publication(HANDOVER_INLINE_BYTES_MAX));
        assert_eq!(followed.take().map(|taken| taken.len()), Some(1));
        assert_eq!(followed.take().map(|taken| taken.len()), Some(1));
        assert_eq!(followed.take().map(|taken| taken.len()), Some(0));
        for _ in 0..=FOLLOWED_BYTES_MAX / 1_000_000 {
            followed.deliver(publication(1_000_000));
        }
        assert!(followed.take().is_none() && followed.lock().bytes == 0);
    }
}
