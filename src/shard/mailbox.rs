//! The only way into a shard from another thread.
//!
//! It is bounded in bytes and messages: a publisher that may refuse asks first and answers 503, one
//! that can wait waits; nothing is dropped. Publications are stamped on arrival, so that the time
//! to the last client can be measured. The mailbox does not know what is done with its mail.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    broker::{Announcement, Missed, Publication, Sink},
    channel::ChannelName,
    clock::Clock,
    limits::{ANNOUNCEMENT_COST_BYTES, MAILBOX_BYTES_MAX, MAILBOX_MESSAGES_MAX},
};

/// One piece of mail.
pub enum Mail {
    /// A message for the clients of its channel.
    Publication(Publication, Instant),
    /// Messages of the channel were lost on their way here.
    Gap(ChannelName, Missed),
    /// Something to be done by all shards; how many clients it concerns is to be answered.
    Announcement(Announcement, Option<oneshot::Sender<usize>>),
    /// Something to be run on the shard's thread.
    Call(Box<dyn FnOnce() + Send>),
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Publication(..) => "Publication",
            Self::Gap(..) => "Gap",
            Self::Announcement(..) => "Announcement",
            Self::Call(_) => "Call",
        })
    }
}

impl Mail {
    fn bytes(&self) -> usize {
        match self {
            Self::Publication(publication, _) => publication.data.len(),
            Self::Announcement(..) => ANNOUNCEMENT_COST_BYTES,
            Self::Gap(..) | Self::Call(_) => 0,
        }
    }
}

/// A shard's mailbox; shared by all threads that write to it.
#[derive(Debug)]
pub struct Mailbox {
    clock: Clock,
    mail: Mutex<VecDeque<Mail>>,
    bytes: AtomicUsize,
    messages: AtomicUsize,
    /// How many were taken in all.
    taken: AtomicU64,
    filled: Notify,
    emptied: Notify,
}

impl Mailbox {
    /// An empty mailbox, which stamps by `clock`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            mail: Mutex::default(),
            bytes: AtomicUsize::new(0),
            messages: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            filled: Notify::new(),
            emptied: Notify::new(),
        }
    }

    /// Puts mail in. Calls are few and bounded by their senders.
    pub fn post(&self, mail: Mail) {
        self.bytes.fetch_add(mail.bytes(), Ordering::AcqRel);
        self.messages.fetch_add(1, Ordering::AcqRel);
        self.lock().push_back(mail);
        self.filled.notify_one();
    }

    /// Moves mail of up to `bytes_max` payload bytes (one message at least) to `into`.
    pub fn take(&self, bytes_max: usize, into: &mut Vec<Mail>) {
        let (mut bytes, mut messages) = (0, 0);
        {
            let mut mail = self.lock();
            while let Some(front) = mail.front() {
                if messages > 0 && bytes + front.bytes() > bytes_max {
                    break;
                }
                bytes += front.bytes();
                messages += 1;
                into.extend(mail.pop_front());
            }
        }
        if messages > 0 {
            self.bytes.fetch_sub(bytes, Ordering::AcqRel);
            self.messages.fetch_sub(messages, Ordering::AcqRel);
            self.taken.fetch_add(messages as u64, Ordering::AcqRel);
            self.emptied.notify_waiters();
        }
    }

    /// Resolves when there may be mail.
    ///
    /// # Cancel safety
    /// May be dropped: mail that came in between wakes the next call.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Resolves when all that has been put in by now is taken. To be called on the thread that
    /// takes it.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn taken(&self) {
        let waiting = self.messages.load(Ordering::Acquire) as u64;
        let until = self.taken.load(Ordering::Acquire) + waiting;
        loop {
            let emptied = self.emptied.notified();
            if self.taken.load(Ordering::Acquire) >= until {
                return;
            }
            emptied.await;
        }
    }

    /// Whether the mailbox is empty now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.messages.load(Ordering::Acquire) == 0
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Mail>> {
        // A panic elsewhere leaves a queue of whole pieces of mail.
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for Mailbox {
    fn has_room(&self, bytes: usize) -> bool {
        self.bytes.load(Ordering::Acquire).saturating_add(bytes) <= MAILBOX_BYTES_MAX
            && self.messages.load(Ordering::Acquire) < MAILBOX_MESSAGES_MAX
    }

    fn deliver(&self, publication: Publication) {
        self.post(Mail::Publication(publication, self.clock.instant()));
    }

    fn gap(&self, channel: &ChannelName, missed: Missed) {
        self.post(Mail::Gap(channel.clone(), missed));
    }

    fn announce(&self, announcement: Announcement, count: Option<oneshot::Sender<usize>>) {
        self.post(Mail::Announcement(announcement, count));
    }

    fn room(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            loop {
                let emptied = self.emptied.notified();
                if self.has_room(1) {
                    return;
                }
                emptied.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        broker::{Disconnection, Selector},
        limits::{APPEND_TURN_BYTES_MAX, BANS_MAX},
        ws::Kind,
    };

    fn publication(bytes: usize) -> Publication {
        Publication {
            channel: ChannelName::default_channel(),
            kind: Kind::Binary,
            data: vec![0; bytes].into(),
            position: None,
        }
    }

    /// Room is bounded in bytes and comes back when mail is taken.
    #[test]
    fn room_is_bounded_in_bytes() {
        let mailbox = Mailbox::new(Clock::start());
        assert!(mailbox.has_room(MAILBOX_BYTES_MAX));
        mailbox.deliver(publication(MAILBOX_BYTES_MAX - 10));
        assert!(mailbox.has_room(10));
        assert!(!mailbox.has_room(11));
        let mut taken = Vec::new();
        mailbox.take(1, &mut taken);
        assert_eq!(taken.len(), 1);
        assert!(mailbox.has_room(MAILBOX_BYTES_MAX));
    }

    #[test]
    fn room_is_bounded_in_messages() {
        let mailbox = Mailbox::new(Clock::start());
        for _ in 0..MAILBOX_MESSAGES_MAX {
            assert!(mailbox.has_room(0));
            mailbox.deliver(publication(0));
        }
        assert!(!mailbox.has_room(0));
    }

    #[test]
    fn mail_is_taken_in_order_and_in_turns() {
        let mailbox = Mailbox::new(Clock::start());
        for bytes in [10, 20, 30] {
            mailbox.deliver(publication(bytes));
        }
        let mut taken = Vec::new();
        mailbox.take(30, &mut taken);
        assert_eq!(taken.iter().map(Mail::bytes).collect::<Vec<_>>(), [10, 20]);
        mailbox.take(30, &mut taken);
        assert_eq!(taken.iter().map(Mail::bytes).collect::<Vec<_>>(), [10, 20, 30]);
    }

    /// Ten thousand bans that are read from Redis do not keep a shard from its clients.
    #[test]
    fn announcements_are_taken_in_turns() {
        let mailbox = Mailbox::new(Clock::start());
        let channel = ChannelName::default_channel();
        for _ in 0..BANS_MAX {
            assert!(mailbox.has_room(1));
            mailbox.announce(of_channel(&channel), None);
        }
        let mut taken = Vec::new();
        mailbox.take(APPEND_TURN_BYTES_MAX, &mut taken);
        assert!(taken.len() <= BANS_MAX / 5, "{}", taken.len());
        mailbox.take(usize::MAX, &mut taken);
        assert_eq!(taken.len(), BANS_MAX);
        assert!(mailbox.has_room(MAILBOX_BYTES_MAX));
    }

    fn of_channel(channel: &ChannelName) -> Announcement {
        let selector = Selector::Channel(channel.clone());
        Announcement::Disconnect(Disconnection { selector, may_return: false, banned_for: None })
    }

    #[test]
    fn a_wait_for_room_ends_from_another_thread() {
        let mailbox = std::sync::Arc::new(Mailbox::new(Clock::start()));
        mailbox.deliver(publication(MAILBOX_BYTES_MAX));
        let reader = mailbox.clone();
        let thread = std::thread::spawn(move || reader.take(1, &mut Vec::new()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(mailbox.room());
        thread.join().unwrap();
    }
}
