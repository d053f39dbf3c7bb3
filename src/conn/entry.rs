//! The table's record of one client, beside the client's entry in the hub.
//!
//! An idle client takes three words and a few flags: the fields that only a busy or a closing
//! client needs are in a box that exists only then. The table's files decide when each of them
//! changes.

use serde::{Deserialize, Serialize};

use crate::{
    broker::PublisherClass,
    clock::Millis,
    conn::{client_state::ClientState, command_queue::CommandQueue, keepalive::Keepalive},
    drain::Guard,
    hub::{Encoding, Key},
    ws::decoder::Decoder,
};

/// The purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Endpoint {
    /// Broadcasts.
    Ws,
    /// The client's messages are sent back to it.
    Echo,
}

/// One client.
///
/// # Invariants
/// It is live, that is, its 101 is out, exactly while it has a guard.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) decoder: Decoder,
    pub(super) guard: Option<Guard>,
    pub(super) keepalive: Keepalive,
    busy: Option<Box<Busy>>,
    generation: u32,
    /// When it was made, on the monotonic clock.
    pub(super) connected_s: u32,
    pub(super) endpoint: Endpoint,
    /// How its messages are written, and whether it may compress its own.
    pub(super) encoding: Encoding,
    /// The class of its publications, if they may be published.
    pub(super) publisher: Option<PublisherClass>,
    /// Input is left in the kernel until there is room for its consequences.
    pub(super) paused: bool,
    /// The epoll set is asked to report room to write.
    pub(super) wants_room: bool,
}

/// The fields that an idle client does not need.
#[derive(Debug)]
struct Busy {
    state: ClientState,
    /// Bytes charged to the budget for the decoder's unfinished message.
    charged_bytes: usize,
    message_begun: Option<Millis>,
    queue: Option<CommandQueue>,
}

impl Busy {
    fn new() -> Self {
        Self { state: ClientState::Open, charged_bytes: 0, message_begun: None, queue: None }
    }

    fn is_over(&self) -> bool {
        self.state == ClientState::Open
            && self.charged_bytes == 0
            && self.message_begun.is_none()
            && self.queue.is_none()
    }
}

impl Entry {
    /// A client that waits for its 101.
    pub(super) fn new(key: Key, endpoint: Endpoint, encoding: Encoding, now: Millis) -> Self {
        Self {
            decoder: Decoder::default(),
            guard: None,
            keepalive: Keepalive::new(now),
            busy: None,
            generation: key.generation(),
            connected_s: u32::try_from(now.0 / 1000).unwrap_or(u32::MAX),
            endpoint,
            encoding,
            publisher: None,
            paused: false,
            wants_room: false,
        }
    }

    /// Whether `key`, which names this place, was made for the client that is here now.
    pub(super) fn is_of(&self, key: Key) -> bool {
        self.generation == key.generation()
    }

    /// Its key, at place `index`.
    pub(super) fn key(&self, index: usize) -> Key {
        Key::new(index, self.generation)
    }

    pub(super) fn is_live(&self) -> bool {
        self.guard.is_some()
    }

    /// Whether the content of its messages is wanted.
    pub(super) fn is_listened_to(&self) -> bool {
        self.endpoint == Endpoint::Echo || self.publisher.is_some() || self.encoding.is_v1()
    }

    pub(super) fn state(&self) -> ClientState {
        self.busy.as_ref().map_or(ClientState::Open, |busy| busy.state)
    }

    pub(super) fn set_state(&mut self, state: ClientState) {
        self.edit(|busy| busy.state = state);
    }

    pub(super) fn charged_bytes(&self) -> usize {
        self.busy.as_ref().map_or(0, |busy| busy.charged_bytes)
    }

    pub(super) fn set_charged_bytes(&mut self, bytes: usize) {
        if bytes != self.charged_bytes() {
            self.edit(|busy| busy.charged_bytes = bytes);
        }
    }

    /// When the message that is unfinished was begun.
    pub(super) fn message_begun(&self) -> Option<Millis> {
        self.busy.as_ref()?.message_begun
    }

    pub(super) fn set_message_begun(&mut self, begun: Option<Millis>) {
        if begun != self.message_begun() {
            self.edit(|busy| busy.message_begun = begun);
        }
    }

    /// There while a message of the client's is on its way.
    pub(super) fn queue(&self) -> Option<&CommandQueue> {
        self.busy.as_ref()?.queue.as_ref()
    }

    pub(super) fn queue_mut(&mut self) -> Option<&mut CommandQueue> {
        self.busy.as_mut()?.queue.as_mut()
    }

    pub(super) fn open_queue(&mut self) {
        self.edit(|busy| busy.queue = Some(CommandQueue::default()));
    }

    pub(super) fn set_queue(&mut self, queue: CommandQueue) {
        self.edit(|busy| busy.queue = Some(queue));
    }

    pub(super) fn take_queue(&mut self) -> Option<CommandQueue> {
        self.queue()?;
        let mut queue = None;
        self.edit(|busy| queue = busy.queue.take());
        queue
    }

    fn edit(&mut self, change: impl FnOnce(&mut Busy)) {
        let mut busy = self.busy.take().unwrap_or_else(|| Box::new(Busy::new()));
        change(&mut busy);
        self.busy = Some(busy).filter(|busy| !busy.is_over());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_costs_at_most_56_bytes_here() {
        assert!(size_of::<Option<Entry>>() <= 56, "{}", size_of::<Option<Entry>>());
    }

    #[test]
    fn memory_for_busy_clients_is_given_back() {
        let key = Key::new(3, 7);
        let mut entry = Entry::new(key, Endpoint::Ws, Encoding::Plain, Millis(5));
        assert!(entry.is_of(key) && entry.key(3) == key && !entry.is_of(Key::new(3, 8)));
        entry.set_charged_bytes(10);
        entry.set_message_begun(Some(Millis(1)));
        entry.open_queue();
        assert!(entry.busy.is_some() && entry.queue().is_some());
        entry.set_charged_bytes(0);
        entry.set_message_begun(None);
        assert!(entry.take_queue().is_some());
        assert!(entry.busy.is_none() && entry.take_queue().is_none());
    }
}
