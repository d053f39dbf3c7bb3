//! The common knowledge of the conductor, the clients and the publishers.
//!
//! Per delivery a client touches atomics only; locks are for answers to publishers, for new epochs,
//! and for faults.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use serde::Serialize;
use testkit::clock;

use super::judge::{Acknowledged, Place};

/// Of what goes wrong so many examples are kept.
const REMARKS_MAX: usize = 100;
/// In place of a time: nobody is waiting for a delivery.
const NOT_ASKED: u64 = 1;

/// How publishes of one fault's time were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Answers {
    pub(super) cluster: u64,
    pub(super) local: u64,
    /// 504; asked again with the same key.
    pub(super) unconfirmed: u64,
    /// 503 or another status; asked again.
    pub(super) refused: u64,
    /// No connection or no answer; asked again.
    pub(super) failed: u64,
    /// Asked again in vain until the publisher gave up.
    pub(super) abandoned: u64,
    pub(super) slowest_ms: u64,
}

/// A server process as its clients see it.
#[derive(Debug)]
pub(super) struct Door {
    pub(super) address: SocketAddr,
    pub(super) is_up: AtomicBool,
    /// By channel: clients that are subscribed.
    watchers: Vec<AtomicUsize>,
    /// By channel: how many there were when the fault ended.
    watched: Vec<AtomicUsize>,
    /// By channel: when the first message came that was published after the fault.
    first_ns: Vec<AtomicU64>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shared {
    /// The number of the fault that is on, or was last.
    pub(super) phase: AtomicUsize,
    pub(super) doors: Vec<Door>,
    /// Publishers that are not done.
    pub(super) publishers: AtomicUsize,
    /// Clients and channels that have got the last message.
    pub(super) finished: AtomicUsize,
    pub(super) opened: AtomicUsize,
    /// By channel: the next message's number.
    numbers: Vec<AtomicU32>,
    /// By channel: the first number that was published after the fault.
    floors: Vec<AtomicU32>,
    epochs: Mutex<HashMap<String, u32>>,
    ledgers: Vec<Mutex<Vec<Acknowledged>>>,
    answers: Mutex<Vec<Answers>>,
    /// By fault: how sessions ended → how many.
    endings: Mutex<Vec<BTreeMap<String, u64>>>,
    /// Each mistake → when first, and how often.
    remarks: Mutex<BTreeMap<String, (u64, u64)>>,
}

/// From a fault's end to deliveries.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    /// Of each server: to its first delivery.
    pub(super) first_ms: Vec<u64>,
    /// To the first delivery on the last channel of all servers.
    pub(super) all_ms: u64,
    /// Servers and channels with clients and without a delivery.
    pub(super) silent: usize,
}

impl Shared {
    pub(super) fn new(addresses: &[SocketAddr], channels: usize) -> Self {
        fn list<T>(length: usize, one: impl Fn() -> T) -> Vec<T> {
            (0..length).map(|_| one()).collect()
        }
        let door = |address: &SocketAddr| Door {
            address: *address,
            is_up: AtomicBool::new(true),
            watchers: list(channels, AtomicUsize::default),
            watched: list(channels, AtomicUsize::default),
            first_ns: list(channels, || AtomicU64::new(NOT_ASKED)),
        };
        Self {
            phase: AtomicUsize::new(0),
            doors: addresses.iter().map(door).collect(),
            publishers: AtomicUsize::new(0),
            finished: AtomicUsize::new(0),
            opened: AtomicUsize::new(0),
            numbers: list(channels, AtomicU32::default),
            floors: list(channels, AtomicU32::default),
            epochs: Mutex::default(),
            ledgers: list(channels, Mutex::default),
            answers: Mutex::default(),
            endings: Mutex::default(),
            remarks: Mutex::default(),
        }
    }

    pub(super) fn phase(&self) -> usize {
        self.phase.load(Relaxed)
    }

    pub(super) fn channels(&self) -> usize {
        self.numbers.len()
    }

    /// The number for a channel's next message.
    pub(super) fn next_number(&self, channel: usize) -> u32 {
        self.numbers[channel].fetch_add(1, Relaxed)
    }

    /// The number that an epoch's name stands for.
    pub(super) fn epoch(&self, name: &str) -> u32 {
        let mut epochs = lock(&self.epochs);
        let next = epochs.len() as u32;
        *epochs.entry(name.to_owned()).or_insert(next)
    }

    /// Writes down a message that was acknowledged.
    pub(super) fn acknowledge(&self, channel: usize, message: Acknowledged) {
        lock(&self.ledgers[channel]).push(message);
    }

    /// All that was acknowledged on a channel.
    pub(super) fn ledger(&self, channel: usize) -> Vec<Acknowledged> {
        lock(&self.ledgers[channel]).clone()
    }

    /// Writes down how a publish was answered.
    pub(super) fn answered(&self, phase: usize, write: impl FnOnce(&mut Answers)) {
        write(at(&mut lock(&self.answers), phase));
    }

    /// The answers in the time of a fault.
    pub(super) fn answers(&self, phase: usize) -> Answers {
        *at(&mut lock(&self.answers), phase)
    }

    /// Writes down how a client's session ended.
    pub(super) fn ended(&self, word: &str) {
        let mut endings = lock(&self.endings);
        *at(&mut endings, self.phase()).entry(word.to_owned()).or_default() += 1;
    }

    /// How sessions ended in the time of a fault.
    pub(super) fn endings(&self, phase: usize) -> BTreeMap<String, u64> {
        at(&mut lock(&self.endings), phase).clone()
    }

    /// Keeps an example of what went wrong; the same of many clients is one.
    pub(super) fn remark(&self, text: impl FnOnce() -> String) {
        let mut remarks = lock(&self.remarks);
        if remarks.len() < REMARKS_MAX {
            remarks.entry(text()).or_insert_with(|| (clock::now_ns(), 0)).1 += 1;
        }
    }

    /// The examples in the order of their first times, in seconds since the start.
    pub(super) fn remarks(&self) -> Vec<String> {
        let remarks = lock(&self.remarks);
        let mut remarks: Vec<_> = remarks.iter().collect();
        remarks.sort_unstable_by_key(|(_, (first_ns, _))| *first_ns);
        let line = |(text, (first_ns, times)): (&String, &(u64, u64))| {
            format!("{:8.3} s {times:4} x {text}", clock::as_secs(*first_ns))
        };
        remarks.into_iter().map(line).collect()
    }

    /// A place as servers write it.
    pub(super) fn show(&self, place: Place) -> String {
        let epochs = lock(&self.epochs);
        let name = epochs.iter().find(|(_, number)| **number == place.epoch);
        format!("{}:{}", name.map_or("?", |(name, _)| name), place.offset)
    }

    /// A client of `server` is subscribed, or no more.
    pub(super) fn watch(&self, server: usize, channel: usize, is_there: bool) {
        let watchers = &self.doors[server].watchers[channel];
        if is_there {
            watchers.fetch_add(1, Relaxed);
        } else {
            watchers.fetch_sub(1, Relaxed);
        }
    }

    /// A message of the cluster came to a client of `server`.
    pub(super) fn delivered(&self, server: usize, channel: usize, number: u32) {
        let first_ns = &self.doors[server].first_ns[channel];
        if first_ns.load(Relaxed) == 0 && number >= self.floors[channel].load(Relaxed) {
            first_ns.store(clock::now_ns(), Relaxed);
        }
    }

    /// A fault has ended: from now on each server's first delivery is waited for.
    pub(super) fn ask_for_deliveries(&self) {
        for (floor, number) in self.floors.iter().zip(&self.numbers) {
            floor.store(number.load(Relaxed), Relaxed);
        }
        for door in &self.doors {
            for (watched, watchers) in door.watched.iter().zip(&door.watchers) {
                watched.store(watchers.load(Relaxed), Relaxed);
            }
            door.first_ns.iter().for_each(|first| first.store(0, Relaxed));
        }
    }

    /// The messages since `ended_ns`.
    pub(super) fn recovery(&self, ended_ns: u64) -> Recovery {
        let mut recovery = Recovery::default();
        for door in &self.doors {
            let mut first_ns = u64::MAX;
            let channels = door.first_ns.iter().zip(&door.watched).zip(&door.watchers);
            for ((at_ns, watched), watchers) in channels {
                let at_ns = at_ns.load(Relaxed);
                if at_ns != 0 {
                    first_ns = first_ns.min(at_ns);
                }
                // A client that came later to an empty server has not waited.
                match watched.load(Relaxed) {
                    0 => {}
                    _ if at_ns > 0 => {
                        recovery.all_ms = recovery.all_ms.max(since_ms(ended_ns, at_ns));
                    }
                    _ => recovery.silent += usize::from(watchers.load(Relaxed) > 0),
                }
            }
            if first_ns != u64::MAX {
                recovery.first_ms.push(since_ms(ended_ns, first_ns));
            }
        }
        recovery
    }
}

/// The name of channel number `channel`.
pub(super) fn channel_name(channel: usize) -> String {
    format!("chaos.{channel}")
}

/// The number in a channel's name.
pub(super) fn channel_of(name: &str) -> Option<usize> {
    name.strip_prefix("chaos.")?.parse().ok()
}

fn since_ms(from_ns: u64, to_ns: u64) -> u64 {
    to_ns.saturating_sub(from_ns) / 1_000_000
}

/// Nothing here is left half done by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at<T: Clone + Default>(list: &mut Vec<T>, phase: usize) -> &mut T {
    if list.len() <= phase {
        list.resize(phase + 1, T::default());
    }
    &mut list[phase]
}
