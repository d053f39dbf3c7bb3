//! Which process bridges the raw channel, and which messages belong to which process: pure.
//!
//! One process holds a lease in Redis. A process that takes it, is about to leave it or gives it up
//! has Redis publish a mark in the same step. Marks arrive among the raw messages in the order in
//! which Redis carried both out, so all processes agree where a holder's messages begin and end,
//! however late they are read; the clock only decides when a holder must stop.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{
    clock::Millis,
    limits::{BRIDGE_LEASE, BRIDGE_LEASE_MARGIN, BRIDGE_WAITING_BYTES_MAX, BRIDGE_WAITING_MAX},
};

/// The marks that a holder has Redis publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// The messages that follow are the holder's.
    Taken,
    /// The messages before are the holder's, those that follow the next one's.
    Leaving,
    /// The lease is free.
    Released,
}

/// A mark among the raw messages: `WORD HOLDER ATTEMPT`.
#[derive(Debug)]
struct Mark<'a> {
    word: Word,
    holder: &'a str,
    attempt: u64,
}

/// The request to Redis that is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// For the lease.
    Take,
    /// For more time.
    Extend,
    /// To let others have it.
    Release,
}

/// The meaning of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeaseEvent {
    /// Nothing to be done.
    Noted,
    /// The lease is free: it is time to ask.
    Free,
    /// It is this process's, and between its last holder and this one messages may be lost.
    Interrupted,
}

/// One process's view of the lease.
///
/// # Invariants
/// - The messages in `waiting` came after the newest mark that made them this process's or
///   nobody's.
/// - It is bridged only while the lease is held, and after the mark of the attempt that took it.
#[derive(Debug)]
pub(super) struct Lease {
    me: String,
    held_until: Option<Millis>,
    attempt: u64,
    /// The mark of the current attempt has come.
    begun: bool,
    /// Our own mark of leaving has come.
    left: bool,
    /// Held, and not to be held any longer.
    unwanted: bool,
    /// Another process has had it before.
    has_holder: bool,
    waiting: Option<Waiting>,
}

/// Raw messages that the next holder is to bridge.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(crate) messages: VecDeque<Bytes>,
    bytes: usize,
    /// The oldest ones, for which there was no room.
    pub(super) dropped: u64,
}

impl Lease {
    /// `me` tells this process from all others.
    pub(crate) fn new(me: String) -> Self {
        Self {
            me,
            held_until: None,
            attempt: 0,
            begun: false,
            left: false,
            unwanted: false,
            has_holder: false,
            waiting: None,
        }
    }

    /// This process's name in the lease.
    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// Whether no other process can hold it now.
    pub(super) fn is_held(&self, now: Millis) -> bool {
        self.held_until.is_some_and(|until| now < until)
    }

    /// Whether raw messages that arrive now are this process's.
    pub(super) fn is_bridging(&self, now: Millis) -> bool {
        self.is_held(now) && self.begun && !self.left
    }

    /// Our own mark of leaving has come: nothing more is ours.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// The number of the newest attempt to take it.
    pub(super) fn attempt(&self) -> u64 {
        self.attempt
    }

    /// The request that is due to Redis now, if any. `can_bridge`: raw messages and marks arrive.
    pub(crate) fn ask(&mut self, now: Millis, can_bridge: bool) -> Option<Ask> {
        if self.unwanted && !can_bridge {
            return Some(Ask::Release);
        }
        if self.is_held(now) {
            return Some(Ask::Extend);
        }
        if self.left || !can_bridge {
            return None;
        }
        self.held_until = None;
        self.unwanted = false;
        self.begun = false;
        self.attempt += 1;
        Some(Ask::Take)
    }

    /// It is ours, by the answer to the query that this attempt `asked` then.
    pub(super) fn granted(&mut self, attempt: u64, asked: Millis) {
        if attempt == self.attempt && !self.unwanted {
            // From before the command was sent: Redis counts from later on.
            self.held_until = Some(asked + (BRIDGE_LEASE - BRIDGE_LEASE_MARGIN));
        }
    }

    /// Redis says that it is not ours.
    pub(super) fn denied(&mut self, attempt: u64) {
        if attempt == self.attempt {
            self.held_until = None;
            self.begun = false;
            self.has_holder = true;
        }
    }

    /// It was given back.
    pub(super) fn released(&mut self, attempt: u64) {
        if attempt == self.attempt {
            self.unwanted = false;
            self.held_until = None;
        }
    }

    /// Marks and messages were missed: nothing is known to be ours any more.
    pub(super) fn disconnected(&mut self) {
        self.unwanted |= self.held_until.take().is_some();
        self.has_holder |= self.begun;
        self.begun = false;
        self.waiting = None;
    }

    /// A mark arrived.
    pub(crate) fn heard(&mut self, payload: &[u8]) -> LeaseEvent {
        let Some(mark) = Mark::parse(payload) else { return LeaseEvent::Noted };
        let is_ours = mark.holder == self.me;
        match mark.word {
            Word::Taken if is_ours => {
                self.begun = mark.attempt == self.attempt;
                let had_holder = std::mem::take(&mut self.has_holder);
                if self.waiting.is_none() {
                    self.waiting = Some(Waiting::default());
                    if had_holder {
                        return LeaseEvent::Interrupted;
                    }
                }
            }
            Word::Taken => {
                self.denied(self.attempt);
                self.waiting = None;
            }
            Word::Leaving if is_ours => self.left = true,
            Word::Leaving => {
                self.waiting.get_or_insert_default();
            }
            Word::Released if is_ours => {}
            Word::Released => return LeaseEvent::Free,
        }
        LeaseEvent::Noted
    }

    /// A raw message arrived.
    pub(super) fn raw(&mut self, data: Bytes) {
        if !self.left
            && let Some(waiting) = &mut self.waiting
        {
            waiting.push(data);
        }
    }

    /// The messages to be bridged now, in order.
    pub(super) fn ready(&mut self, now: Millis) -> Option<Waiting> {
        let is_ours = self.is_held(now) && self.begun;
        self.waiting.as_mut().filter(|_| is_ours).map(std::mem::take)
    }
}

impl Waiting {
    fn push(&mut self, data: Bytes) {
        self.bytes += data.len();
        self.messages.push_back(data);
        while self.messages.len() > BRIDGE_WAITING_MAX || self.bytes > BRIDGE_WAITING_BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }
}

impl<'a> Mark<'a> {
    fn parse(payload: &'a [u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(payload).ok()?.split(' ');
        let word = match words.next()? {
            "taken" => Word::Taken,
            "leaving" => Word::Leaving,
            "released" => Word::Released,
            _ => return None,
        };
        let (holder, attempt) = (words.next()?, words.next()?.parse().ok()?);
        words.next().is_none().then_some(Self { word, holder, attempt })
    }
}

#[cfg(test)]
mod tests;
