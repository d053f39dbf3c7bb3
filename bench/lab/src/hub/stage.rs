//! A hub with its outlets, and the stop watch: what all parts of `lab hub` stand on.
//!
//! The only file of the measurement that makes a hub and calls it, so that a change of the hub's
//! interface is a change here.

use std::{
    io::{self, ErrorKind, IoSlice},
    sync::Arc,
};

use testkit::{clock, machine::Memory};
use wsbcast::{
    channel::ChannelName,
    hub::{Budget, Encoding, Event, Hub, HubSettings, Key, SlowPolicy, Unchanged},
    ws::Kind,
};

/// A million stalled clients' Close frames fit.
pub(super) const BUDGET_BYTES: usize = 4 * 1024 * 1024 * 1024;

/// Takes everything, or nothing; of the size of the server's own outlet.
#[derive(Debug)]
pub(super) struct Sink {
    taken_bytes: u64,
    refuses: bool,
}

impl wsbcast::hub::Outlet for Sink {
    type Shared = ();

    fn shared(_budget: &Arc<Budget>) {}

    fn write_vectored(&mut self, (): &mut (), slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.refuses {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = slices.iter().map(|slice| slice.len()).sum();
        self.taken_bytes += bytes as u64;
        Ok(bytes)
    }
}

/// A hub under measurement.
pub(super) struct Stage {
    hub: Hub<Sink>,
    payload: Vec<u8>,
    events: Vec<Event>,
}

impl Stage {
    /// An empty hub; messages have `size` bytes.
    pub(super) fn new(size: usize, backlog: usize, slow: SlowPolicy, budget: usize) -> Self {
        let slow_close_frame = [&[0x88, 15, 0x03, 0xf5][..], b"slow consumer"].concat();
        let settings = HubSettings {
            backlog_bytes: backlog,
            slow,
            slow_close_frame: slow_close_frame.into_boxed_slice(),
        };
        Self {
            hub: Hub::new(settings, Arc::new(Budget::new(budget))),
            payload: vec![b'x'; size],
            events: Vec::new(),
        }
    }

    /// A new client that hears nothing yet.
    pub(super) fn insert(&mut self, refuses: bool) -> Key {
        self.hub.insert(Sink { taken_bytes: 0, refuses })
    }

    /// Lets it hear a channel.
    pub(super) fn subscribe(&mut self, key: Key, channel: &ChannelName) {
        self.hub.subscribe(key, channel, Encoding::Plain);
    }

    /// A client leaves.
    pub(super) fn remove(&mut self, key: Key) {
        self.hub.remove(key);
    }

    /// All clients.
    pub(super) fn keys(&self) -> Vec<Key> {
        self.hub.keys().collect()
    }

    /// The clients that have waited for their outlets since a pass.
    pub(super) fn blocked(&self) -> Vec<Key> {
        self.hub.keys().filter(|key| self.hub.is_blocked(*key)).collect()
    }

    /// A stalled client takes everything again.
    pub(super) fn recover(&mut self, key: Key) {
        if let Some(sink) = self.hub.outlet_mut(key) {
            sink.refuses = false;
        }
        self.hub.writable(key);
    }

    /// One message.
    pub(super) fn publish(&mut self, channel: &ChannelName) {
        self.hub.publish(channel.as_str(), &mut Unchanged::new(Kind::Text, &self.payload));
    }

    /// One whole pass; how many deliveries it made.
    pub(super) fn pass(&mut self) -> u64 {
        self.hub.pass(&mut || true).deliveries
    }

    /// The number of events since the last call.
    pub(super) fn events(&mut self) -> usize {
        self.events.clear();
        self.hub.take_events(&mut self.events);
        let count = self.events.len();
        // Freed: the reader of the events would not keep them either.
        self.events = Vec::new();
        count
    }

    /// The bytes that the budget counts.
    pub(super) fn held_bytes(&self) -> usize {
        self.hub.held_bytes()
    }

    /// Channels that nobody hears any more are told to nobody here.
    pub(super) fn forget_abandoned(&mut self) {
        while self.hub.take_abandoned().is_some() {}
    }
}

/// Nanoseconds that `work` took.
pub(super) fn timed(work: impl FnOnce()) -> f64 {
    let from = clock::now_ns();
    work();
    (clock::now_ns() - from) as f64
}

/// Anonymous memory of this process now, bytes.
pub(super) fn memory() -> f64 {
    Memory::take(&[std::process::id()]).anonymous_bytes as f64
}

/// Channel number `at`.
pub(super) fn channel(at: usize) -> ChannelName {
    ChannelName::new(&format!("channel-{at}")).expect("letters, a hyphen and digits")
}
