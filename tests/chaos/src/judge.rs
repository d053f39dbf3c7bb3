//! The messages that one client got of one channel, judged as they come: lost, repeated, reordered,
//! told gaps.
//!
//! Pure: positions and numbers in, counts out; it holds no payloads. Offsets of an epoch have no
//! holes, so a step of more than one that no reported gap covers is a loss, whether or not its
//! publisher was answered; the ledger of acknowledged messages finds at the end what contiguity
//! cannot: the end of an epoch, and a position that Redis gave to two messages.

use serde::Serialize;

/// A place in a channel's order. An epoch is a number for its name; the numbers have no order:
/// while two servers take themselves for the master, two epochs follow the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) epoch: u32,
    pub(super) offset: u64,
}

/// A gap as a server told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// None: the server does not know.
    pub(super) epoch: Option<u32>,
    pub(super) from: u64,
    /// None: up to whatever comes next.
    pub(super) to: Option<u64>,
}

/// A message that was acknowledged as in the cluster's order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub(super) number: u32,
    pub(super) place: Place,
    /// The fault in whose time it was published.
    pub(super) phase: usize,
}

/// The mistakes in the time of one fault, and what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Counts {
    pub(super) received: u64,
    pub(super) local: u64,
    pub(super) lost: u64,
    pub(super) repeated: u64,
    pub(super) reordered: u64,
    pub(super) gaps_told: u64,
    /// Acknowledged messages that did not come, as told.
    pub(super) covered: u64,
    /// In a new epoch once more: Redis had forgotten the message and its idempotency key.
    pub(super) anew: u64,
}

/// The mistake of a message, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Repeated,
    Reordered,
    /// So many offsets before it were passed over in silence.
    Hole(u64),
}

/// Offsets `from..=to` of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    epoch: u32,
    from: u64,
    to: u64,
}

/// One client's view of one channel.
#[derive(Debug, Default)]
pub(super) struct Track {
    first: Option<Place>,
    last: Option<Place>,
    /// Told with an open end, and nothing has come since.
    open: Option<Told>,
    told: Vec<Range>,
    /// The epochs that the client has left.
    left: Vec<u32>,
    /// In which phases another epoch came as told: what was acknowledged then in an epoch that
    /// the client never was in is covered too.
    told_turns: Vec<usize>,
    holes: Vec<(Range, usize)>,
    seen: Numbers,
    seen_in_epoch: Numbers,
    phases: Vec<Counts>,
}

/// A set of small numbers.
#[derive(Debug, Default)]
struct Numbers(Vec<u64>);

impl Track {
    /// The position a server gave at the start: everything after it has to come.
    pub(super) fn start(&mut self, place: Place) {
        if self.last.is_none() {
            self.first = Some(place);
            self.last = Some(place);
        }
    }

    /// From where to resume.
    pub(super) fn position(&self) -> Option<Place> {
        self.last
    }

    /// Number `number` came as a local message.
    pub(super) fn local(&mut self, phase: usize) {
        self.counts(phase).local += 1;
    }

    /// Number `number` came with its place.
    pub(super) fn message(&mut self, phase: usize, place: Place, number: u32) -> Option<Fault> {
        let again = !self.seen.insert(number);
        self.counts(phase).received += 1;
        let last = *self.last.get_or_insert(Place { offset: 0, ..place });
        self.first.get_or_insert(last);
        let is_left = self.left.contains(&place.epoch);
        if is_left || (place.epoch == last.epoch && place.offset <= last.offset) {
            let counts = self.counts(phase);
            *(if again { &mut counts.repeated } else { &mut counts.reordered }) += 1;
            return Some(if again { Fault::Repeated } else { Fault::Reordered });
        }
        if place.epoch != last.epoch {
            self.left.push(last.epoch);
            self.seen_in_epoch.0.clear();
        }
        let again_in_epoch = !self.seen_in_epoch.insert(number);
        if let Some(open) = self.open.take() {
            self.cover(phase, last, open, place);
        }
        let from = if place.epoch == last.epoch { last.offset + 1 } else { 1 };
        let hole = self.add_holes(phase, Range { epoch: place.epoch, from, to: place.offset - 1 });
        self.last = Some(place);
        if again_in_epoch {
            self.counts(phase).repeated += 1;
            return Some(Fault::Repeated);
        }
        self.counts(phase).anew += u64::from(again);
        (hole > 0).then_some(Fault::Hole(hole))
    }

    /// A gap was told.
    pub(super) fn gap(&mut self, phase: usize, gap: Told) {
        self.counts(phase).gaps_told += 1;
        let Some(last) = self.last else { return };
        match (gap.epoch, gap.to) {
            (Some(epoch), Some(to)) => {
                let end = Place { epoch, offset: to.saturating_add(1) };
                self.cover(phase, last, gap, end);
            }
            _ => self.open = Some(gap),
        }
    }

    /// Marks as told what lies between `last` and `end`, by `gap`.
    fn cover(&mut self, phase: usize, last: Place, gap: Told, end: Place) {
        let from_known = gap.epoch == Some(end.epoch);
        let from = match from_known {
            true => gap.from,
            false if end.epoch == last.epoch => last.offset + 1,
            false => 1,
        };
        self.told.push(Range { epoch: end.epoch, from, to: end.offset.saturating_sub(1) });
        if end.epoch != last.epoch {
            self.told.push(Range { epoch: last.epoch, from: last.offset + 1, to: u64::MAX });
            self.told_turns.push(phase);
        }
    }

    /// Keeps what of `range` was not told; how many offsets.
    fn add_holes(&mut self, phase: usize, range: Range) -> u64 {
        let mut from = range.from;
        let mut sum = 0;
        let mut told: Vec<Range> =
            self.told.iter().filter(|told| told.epoch == range.epoch).copied().collect();
        told.sort_unstable_by_key(|told| told.from);
        // A last one, so that what follows the others needs no case of its own.
        told.push(Range { epoch: range.epoch, from: range.to.saturating_add(1), to: u64::MAX });
        for told in told {
            let to = range.to.min(told.from.saturating_sub(1));
            if from <= to {
                self.holes.push((Range { from, to, ..range }, phase));
                sum += to - from + 1;
            }
            from = from.max(told.to.saturating_add(1));
        }
        sum
    }

    /// The verdict by phase, when all that was acknowledged must have come; `lost` hears of each
    /// acknowledged message that is lost.
    pub(super) fn verdict(
        mut self,
        ledger: &[Acknowledged],
        mut lost: impl FnMut(&Acknowledged),
    ) -> Vec<Counts> {
        if let (Some(last), Some(open)) = (self.last, self.open.take()) {
            let epoch = open.epoch.unwrap_or(last.epoch);
            let phase = self.phases.len().saturating_sub(1);
            self.cover(phase, last, open, Place { epoch, offset: u64::MAX });
            self.told_turns.push(phase);
        }
        for (hole, phase) in std::mem::take(&mut self.holes) {
            self.counts(phase).lost += hole.to - hole.from + 1;
            // Not once more by the ledger.
            self.told.push(Range { epoch: hole.epoch, from: hole.from, to: hole.to });
            self.holes.push((hole, phase));
        }
        let start = self.first.unwrap_or(Place { epoch: 0, offset: 0 });
        for message in ledger {
            let is_before =
                message.place.epoch == start.epoch && message.place.offset <= start.offset;
            if is_before || self.seen.has(message.number) {
                continue;
            }
            let in_hole = self.holes.iter().any(|(hole, _)| hole.has(message.place));
            let is_told = self.is_told(message);
            let counts = self.counts(message.phase);
            if !is_told {
                counts.lost += 1;
            } else if !in_hole {
                counts.covered += 1;
            }
            if in_hole || !is_told {
                lost(message);
            }
        }
        self.phases
    }

    fn is_told(&self, message: &Acknowledged) -> bool {
        let Acknowledged { place, phase, .. } = *message;
        let was_there = |epoch: u32| {
            self.last.is_some_and(|last| last.epoch == epoch) || self.left.contains(&epoch)
        };
        let turned = || self.told_turns.iter().any(|turn| (phase..=phase + 1).contains(turn));
        self.told.iter().any(|told| told.has(place)) || (!was_there(place.epoch) && turned())
    }

    fn counts(&mut self, phase: usize) -> &mut Counts {
        if self.phases.len() <= phase {
            self.phases.resize(phase + 1, Counts::default());
        }
        &mut self.phases[phase]
    }
}

impl Range {
    fn has(&self, place: Place) -> bool {
        self.epoch == place.epoch && (self.from..=self.to).contains(&place.offset)
    }
}

impl Numbers {
    /// False if it was there.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] & bit == 0;
        self.0[word] |= bit;
        is_new
    }

    fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

impl Counts {
    /// Findings that speak against the servers.
    pub(super) fn wrong(&self) -> u64 {
        self.lost + self.repeated + self.reordered
    }

    /// Adds another's.
    pub(super) fn add(&mut self, other: &Self) {
        let Self { received, local, lost, repeated, reordered, gaps_told, covered, anew } = other;
        self.received += received;
        self.local += local;
        self.lost += lost;
        self.repeated += repeated;
        self.reordered += reordered;
        self.gaps_told += gaps_told;
        self.covered += covered;
        self.anew += anew;
    }
}

#[cfg(test)]
mod tests;
