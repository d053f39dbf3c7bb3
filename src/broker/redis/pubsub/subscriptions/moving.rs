//! Channels go on elsewhere with all that is known of them: on another connection of the process,
//! or in another process.

use std::collections::HashSet;

use tokio::sync::oneshot;

use super::{Subscriptions, Topic};
use crate::{
    broker::redis::recovery::sequence::{SequenceTracker, moving::TrackerRecord},
    channel::ChannelName,
    clock::Millis,
};

/// A wanted channel on its way from one connection to another.
#[derive(Debug)]
pub(in crate::broker::redis) struct Moving {
    topic: Topic,
    tracker: SequenceTracker,
    waiters: Vec<oneshot::Sender<()>>,
}

/// A channel's place, for another process.
#[derive(Clone, Debug)]
pub(in crate::broker::redis) struct Place {
    pub(in crate::broker::redis) channel: ChannelName,
    pub(in crate::broker::redis) tracker: TrackerRecord,
    /// Messages before the moment of the record may have been missed.
    pub(in crate::broker::redis) is_unsure: bool,
}

impl Subscriptions {
    /// Takes a channel away: it is wanted on another connection.
    pub(in crate::broker::redis) fn take(&mut self, name: &str) -> Option<Moving> {
        let known = self.get_mut(name)?;
        let moving = Moving {
            topic: known.topic.clone(),
            tracker: std::mem::take(&mut known.tracker),
            waiters: std::mem::take(&mut known.waiters),
        };
        self.unwant(name);
        Some(moving)
    }

    /// Adopts a channel that was wanted on another connection: its state is kept.
    pub(in crate::broker::redis) fn adopt(&mut self, name: String, moving: Moving) {
        let Moving { topic, tracker, waiters } = moving;
        let may_wait = self.want(name.clone(), topic).is_some();
        let Some(known) = self.by_name.get_mut(&name) else { return };
        known.tracker = tracker;
        known.tracker.interrupt();
        if may_wait {
            known.waiters.extend(waiters);
        }
        if known.confirmed.is_some() {
            self.unchecked.push_back(name);
        }
    }

    /// The channels that are wanted.
    pub(in crate::broker::redis) fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.by_name.values().filter(|known| known.wanted).filter_map(|known| known.topic.channel())
    }

    /// The places of all channels. `is_certain`: all that was published up to now has arrived on
    /// those that are subscribed.
    pub(in crate::broker::redis) fn places(&self, is_certain: bool, now: Millis) -> Vec<Place> {
        let unchecked: HashSet<&String> = self.unchecked.iter().collect();
        let wanted = self.by_name.iter().filter(|(_, known)| known.wanted);
        let place = wanted.filter_map(|(name, known)| {
            let is_whole = is_certain && known.confirmed.is_some() && !unchecked.contains(name);
            Some(Place {
                channel: known.topic.channel()?.clone(),
                tracker: known.tracker.record(now),
                is_unsure: !is_whole,
            })
        });
        place.collect()
    }

    /// From here on channels are wanted whose places another process will tell.
    pub(in crate::broker::redis) fn hold(&mut self) {
        self.is_held = true;
    }

    /// Whether Redis has confirmed all that is wanted, or refused it.
    pub(in crate::broker::redis) fn is_settled(&self) -> bool {
        let is_settled = |known: &super::Subscription| known.confirmed.is_some() || known.refused;
        let mut wanted = self.by_name.values().filter(|known| known.wanted);
        self.connected && self.changed.is_empty() && wanted.all(is_settled)
    }

    /// Messages that are missing of channels that are subscribed now were published before, and are
    /// the other process' matter.
    pub(in crate::broker::redis) fn hear_from_now_on(&mut self) {
        for known in self.by_name.values_mut().filter(|known| known.confirmed.is_some()) {
            known.tracker.hear();
        }
        self.unchecked.clear();
    }

    /// Messages of a channel had to be dropped.
    pub(in crate::broker::redis) fn missed(&mut self, name: &str) {
        if let Some(known) = self.get_mut(name) {
            known.tracker.interrupt();
            if known.confirmed.is_some() {
                self.unchecked.push_back(name.to_owned());
            }
        }
    }

    /// A channel goes on where another process was with it. Messages that were published since
    /// then have arrived here, unless something came between: then they are looked for.
    pub(in crate::broker::redis) fn adopt_place(&mut self, name: &str, place: &Place, now: Millis) {
        let Some(known) = self.get_mut(name) else { return };
        let is_unsure = place.is_unsure || known.tracker.is_interrupted();
        known.tracker = SequenceTracker::restore(&place.tracker, now);
        if is_unsure {
            self.missed(name);
        }
    }

    /// All places are known.
    pub(in crate::broker::redis) fn go_on(&mut self) {
        self.is_held = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::redis::pubsub::command::Command;

    /// A channel is compared with Redis if the other process may not have had all before its place,
    /// or this one not all since it was subscribed; no other is.
    #[test]
    fn only_doubtful_places_are_compared_with_redis() {
        let channel = ChannelName::new("a").unwrap();
        let mut tracker = SequenceTracker::default();
        tracker.advance("e", 5, 50, Millis(0));
        let place = |is_unsure| Place {
            channel: channel.clone(),
            tracker: tracker.record(Millis(0)),
            is_unsure,
        };
        let compared = |has_missed, is_unsure| {
            let mut all = Subscriptions::default();
            all.connected();
            all.hold();
            drop(all.want("a".into(), Topic::Channel(channel.clone())));
            assert!(!all.is_settled());
            let told = all.next_command();
            assert_eq!(told, Some(Command::Subscribe("a".into())));
            all.answered(&told.unwrap(), false);
            assert!(all.is_settled());
            all.hear_from_now_on();
            if has_missed {
                all.missed("a");
            }
            all.adopt_place("a", &place(is_unsure), Millis(0));
            all.go_on();
            let last = all.get_mut("a").unwrap().tracker.last().map(|(at, _)| at.offset);
            assert_eq!(last, Some(5));
            !all.take_unchecked(9).is_empty()
        };
        assert!(!compared(false, false) && compared(true, true));
        assert!(compared(true, false) && compared(false, true));
    }
}
