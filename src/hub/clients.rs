//! The clients of a hub, addressed by keys that go stale when a client leaves.
//!
//! An idle client is a slot of a few words: its outlet, its places in its logs, and a pointer to
//! its outbox, which exists only while something waits in it. Logs are known here only by their
//! numbers.

use super::number::small;
use super::outbox::Outbox;

/// The name of one client of one hub, used once: after [`super::Hub::remove`] it is refused
/// everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    /// Never 0, so that a key as a number is at least 2³².
    generation: u32,
}

impl Key {
    /// The client's slot in its hub, reused once it has left. Slots are dense, so tables beside the
    /// hub's can use them as an index.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }

    /// The key of the client at `index` of its `generation`.
    #[must_use]
    pub fn new(index: usize, generation: u32) -> Self {
        Self { index: small(index), generation }
    }

    /// Distinguishes the clients that have had the same slot.
    #[must_use]
    pub fn generation(self) -> u32 {
        self.generation
    }

    /// The key as a number, for instance as a token of an event queue.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// The key that [`Key::to_u64`] turned into this number.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        let low = number & u64::from(u32::MAX);
        Self {
            index: u32::try_from(low).expect("masked to 32 bits"),
            generation: u32::try_from(number >> 32).expect("shifted to 32 bits"),
        }
    }
}

/// The place of a subscription: which log, and which entry of its subscriber list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogPlace {
    pub(super) log: u32,
    pub(super) index: u32,
}

/// A client's subscriptions in the order they were made. A single one needs no memory of its own.
#[derive(Debug, Default)]
pub(super) enum LogPlaces {
    #[default]
    None,
    One(LogPlace),
    // Boxed twice so that the one-subscription case stays at 16 bytes.
    #[expect(clippy::box_collection, reason = "a Vec inside would make every client larger")]
    Many(Box<Vec<LogPlace>>),
}

impl LogPlaces {
    pub(super) fn as_slice(&self) -> &[LogPlace] {
        match self {
            Self::None => &[],
            Self::One(place) => std::slice::from_ref(place),
            Self::Many(places) => places,
        }
    }

    fn as_mut_slice(&mut self) -> &mut [LogPlace] {
        match self {
            Self::None => &mut [],
            Self::One(place) => std::slice::from_mut(place),
            Self::Many(places) => places,
        }
    }

    pub(super) fn position(&self, log: u32) -> Option<usize> {
        self.as_slice().iter().position(|place| place.log == log)
    }

    pub(super) fn push(&mut self, place: LogPlace) {
        match self {
            Self::None => *self = Self::One(place),
            Self::One(first) => *self = Self::Many(Box::new(vec![*first, place])),
            Self::Many(places) => places.push(place),
        }
    }

    pub(super) fn remove(&mut self, position: usize) -> LogPlace {
        let place = self.as_slice()[position];
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Many(places) => drop(places.remove(position)),
        }
        place
    }

    /// The entry in `log` has moved to `index`.
    pub(super) fn moved(&mut self, log: u32, index: usize) {
        let place = self.as_mut_slice().iter_mut().find(|place| place.log == log);
        place.expect("every subscriber entry has its client's place").index = small(index);
    }
}

/// The stages of writing to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WritingState {
    /// Everything is written.
    Open,
    /// The logs are written as far as they reached, then the Close frame kept in the outbox.
    LogsThenClose,
    /// The end of the begun frame, if any, is written, then the outbox, which ends in the Close
    /// frame.
    Close,
    /// The Close frame was taken, or the outlet failed: nothing is written any more.
    Over,
}

/// One client.
///
/// # Invariants
/// - A frame is begun only while the client is `blocked`; there is an outbox only while it is
///   `blocked` or `unflushed`, or closing and `held`. Its subscriber entries are then `busy`, as
///   they are while it is `held`.
/// - While a frame is begun, nothing of the outbox has been sent.
#[derive(Debug)]
pub(super) struct Client<O> {
    pub(super) outlet: O,
    pub(super) places: LogPlaces,
    pub(super) outbox: Option<Box<Outbox>>,
    begun: u16,
    pub(super) state: WritingState,
    /// The outlet took less than it was offered; nothing is tried until it is writable.
    pub(super) blocked: bool,
    /// The client is blocked although its outlet is not known to be full: it has had its turn.
    pub(super) takes_turns: bool,
    /// The client is in the hub's list of outboxes to flush with the next pass.
    pub(super) unflushed: bool,
    /// The client's logs wait until it is released.
    pub(super) held: bool,
}

/// Leaving so many channels takes as long as closing a client.
const PLACES_PER_COST: u32 = 8;

const NONE_BEGUN: u16 = u16::MAX;

impl<O> Client<O> {
    /// The index of the place whose log's frame was begun and not finished.
    pub(super) fn begun(&self) -> Option<usize> {
        (self.begun != NONE_BEGUN).then_some(usize::from(self.begun))
    }

    pub(super) fn set_begun(&mut self, position: Option<usize>) {
        self.begun = position.map_or(NONE_BEGUN, |position| {
            u16::try_from(position).expect("a client has at most u16::MAX - 1 subscriptions")
        });
    }

    /// How many ordinary closes this client's close is worth: each of its channels has to be left.
    pub(super) fn cost_of_leaving(&self) -> u32 {
        1 + small(self.places.as_slice().len()) / PLACES_PER_COST
    }

    /// Forgets the place at `position`.
    pub(super) fn remove_place(&mut self, position: usize) -> LogPlace {
        match self.begun() {
            Some(begun) if begun == position => self.set_begun(None),
            Some(begun) if begun > position => self.set_begun(Some(begun - 1)),
            _ => {}
        }
        if let Some(ending) = self.outbox.as_mut().and_then(|outbox| outbox.ending.as_mut()) {
            ending.heads.remove(position);
        }
        self.places.remove(position)
    }
}

#[derive(Debug)]
struct Slot<O> {
    generation: u32,
    client: Option<Client<O>>,
}

/// All clients of a hub.
#[derive(Debug)]
pub(super) struct Clients<O> {
    slots: Vec<Slot<O>>,
    free: Vec<u32>,
}

impl<O> Clients<O> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn insert(&mut self, outlet: O) -> Key {
        let client = Client {
            outlet,
            places: LogPlaces::None,
            outbox: None,
            begun: NONE_BEGUN,
            state: WritingState::Open,
            blocked: false,
            takes_turns: false,
            unflushed: false,
            held: false,
        };
        if let Some(index) = self.free.pop() {
            self.slots[index as usize].client = Some(client);
            return self.key(index);
        }
        self.slots.push(Slot { generation: 1, client: Some(client) });
        self.key(small(self.slots.len() - 1))
    }

    pub(super) fn remove(&mut self, index: u32) -> Client<O> {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.checked_add(1).unwrap_or(1);
        self.free.push(index);
        slot.client.take().expect("only an existing client is removed")
    }

    /// The slot of the client that `key` names, if it is still there.
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        let slot = self.slots.get(key.index as usize)?;
        (slot.generation == key.generation && slot.client.is_some()).then_some(key.index)
    }

    pub(super) fn key(&self, index: u32) -> Key {
        Key { index, generation: self.slots[index as usize].generation }
    }

    pub(super) fn get(&self, index: u32) -> &Client<O> {
        self.slots[index as usize].client.as_ref().expect("the hub knows who is there")
    }

    pub(super) fn get_mut(&mut self, index: u32) -> &mut Client<O> {
        self.slots[index as usize].client.as_mut().expect("the hub knows who is there")
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        (0..small(self.slots.len()))
            .filter(|&index| self.slots[index as usize].client.is_some())
            .map(|index| self.key(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key is refused once its client has left also when the slot is taken again.
    #[test]
    fn a_key_of_a_reused_slot_is_refused() {
        let mut clients = Clients::new();
        let first = clients.insert('a');
        clients.remove(clients.find(first).unwrap());
        assert_eq!(clients.find(first), None);
        let second = clients.insert('b');
        assert_eq!(clients.find(first), None);
        assert!(clients.find(second).is_some());
        assert_eq!(Key::from_u64(second.to_u64()), second);
        assert_eq!(clients.len(), 1);
    }

    /// An idle client with one subscription stays below 96 bytes.
    #[test]
    fn an_idle_client_costs_less_than_96_bytes() {
        // The outlet of a real client: a descriptor and a pointer.
        let client = size_of::<Slot<(i32, usize)>>();
        let entry = size_of::<super::super::subscriber_list::LogReader>();
        assert!(client + entry <= 96, "{client} + {entry}");
    }
}
