//! The connection that leaves when places run out.
//!
//! It is the one that has kept the server waiting longest: idle, silent, or with a request whose
//! head does not end. But each listener has its share of the places, and a flood is the matter of
//! the listener that it comes to: while connections that have shown no request hold the whole share
//! of one, only they leave, the oldest of them first. TLS and what a proxy announces come before a
//! request. Before all of these go connections of an address that holds many places without a
//! request, first those that have shown none: a flood is the matter of the address that it comes
//! from, too.

use std::{cell::RefCell, rc::Rc};

use tokio::time::Instant;

use super::{Places, Stage, Standing, increase};
use crate::{
    admission::AddressKey,
    limits::{HTTP_PATIENCE, HTTP_PLACES_TO_LEAVE, NEWCOMERS_PER_TURN},
    metrics::Dismissed,
};

impl Places {
    /// Dismisses the connections that have waited longest even if places are free: another resource
    /// is short. A few at a time: they end in their tasks' next turns, which on a busy thread takes
    /// a while.
    pub fn make_room(&self) -> bool {
        let count = (self.room.places / 8).clamp(1, NEWCOMERS_PER_TURN);
        let now = self.clock.instant();
        let one_leaves = |_: &usize| {
            let found = self.next_to_leave(now);
            found.inspect(|one| self.send_away(one, one.word())).is_some()
        };
        (0..count).take_while(one_leaves).count() > 0 || self.dismiss(false)
    }

    /// Dismisses the connection that has waited longest among those in spare places, or in the
    /// others.
    pub(super) fn dismiss(&self, of_spare: bool) -> bool {
        let now = self.clock.instant();
        let found = if of_spare {
            self.longest(now, |one| one.is_spare.get() && one.is_waiting())
        } else {
            self.next_to_leave(now)
        };
        let found = found.or_else(|| {
            let (listener, flood) = (self.overcrowded(), self.fresh_by_address.crowd());
            // Those that crowd the others out come of age at any moment.
            let may_go = |one: &Standing| match flood {
                _ if of_spare => true,
                Some(flood) => one.is_of_flood(flood, listener),
                None => listener.is_none(),
            };
            self.longest(now, |one| {
                one.is_spare.get() == of_spare && one.is_half_done() && may_go(one)
            })
        });
        found.inspect(|one| self.send_away(one, one.word())).is_some()
    }

    /// The listener with the most connections that have shown no request, if these have its whole
    /// share of the places. A single listener has them all.
    fn overcrowded(&self) -> Option<usize> {
        let (count, listener) = self.fresh.iter().map(|fresh| fresh.get()).zip(0..).max()?;
        let share = (self.room.places / self.fresh.len()).max(1);
        (count >= share).then_some(listener)
    }

    /// Only one call in many looks through all connections.
    fn next_to_leave(&self, now: Instant) -> Option<Rc<Standing>> {
        let crowd = self.overcrowded();
        if let Some(flood) = self.fresh_by_address.crowd() {
            let is_of_flood = |one: &Standing| one.is_of_flood(flood, crowd);
            let found = self.next_among(now, &self.next_of_flood, is_of_flood, Standing::has_asked);
            let waits = |one: &Standing| one.may_make_room() && is_of_flood(one);
            // Others do not go for those that are too young, and come of age at any moment.
            if found.is_some() || self.seated.borrow().iter().any(|(_, one)| waits(one)) {
                return found;
            }
        }
        let crowds = |one: &Standing| {
            crowd.is_none_or(|at| one.stage.get() == Stage::Fresh && one.listener == at)
        };
        self.next_among(now, &self.next_to_leave, crowds, |_| false)
    }

    /// The connection that has waited longest among those that `may_leave`, by the list of such;
    /// those that stay for `later` are the last of a list.
    fn next_among(
        &self,
        now: Instant,
        list: &RefCell<Vec<(usize, Instant)>>,
        may_leave: impl Fn(&Standing) -> bool,
        later: impl Fn(&Standing) -> bool,
    ) -> Option<Rc<Standing>> {
        let may_leave = |one: &Standing| one.may_make_room() && may_leave(one);
        let mut next = list.borrow_mut();
        let seated = self.seated.borrow();
        for _ in 0..2 {
            while let Some((key, since)) = next.pop() {
                let found =
                    seated.get(key).filter(|one| one.since.get() == since && may_leave(one));
                if let Some(found) = found {
                    return Some(found.clone());
                }
            }
            let waiting = seated
                .iter()
                .filter(|(_, one)| may_leave(one) && now - one.since.get() >= HTTP_PATIENCE);
            let mut found: Vec<_> =
                waiting.map(|(key, one)| (later(one), one.since.get(), key)).collect();
            if found.len() > HTTP_PLACES_TO_LEAVE {
                found.select_nth_unstable(HTTP_PLACES_TO_LEAVE);
                found.truncate(HTTP_PLACES_TO_LEAVE);
            }
            found.sort_unstable();
            next.extend(found.into_iter().rev().map(|(_, since, key)| (key, since)));
        }
        None
    }

    /// The connection that has been in its stage longest, among those that may be dismissed.
    fn longest(&self, now: Instant, may_go: impl Fn(&Standing) -> bool) -> Option<Rc<Standing>> {
        let seated = self.seated.borrow();
        let all = seated.iter().map(|(_, one)| one);
        let patient = |one: &&Rc<Standing>| now - one.since.get() >= HTTP_PATIENCE && may_go(one);
        all.filter(patient).min_by_key(|one| one.since.get()).cloned()
    }

    pub(super) fn send_away(&self, one: &Standing, why: Dismissed) {
        // It could not help it, unless it was part of a flood.
        let is_of_flood = |flood| one.address.get() == Some(flood);
        if !self.fresh_by_address.crowd().is_some_and(is_of_flood) {
            one.is_silent.set(false);
        }
        one.set_stage(Stage::Leaving);
        if !one.is_spare.get() {
            increase(&self.leaving);
        }
        one.hold_nothing();
        if let Some(task) = one.task.get() {
            task.abort();
        }
        self.metrics.http_dismissed.add(why as usize, 1);
    }
}

impl Standing {
    /// It comes from this address, and to the listener that is overcrowded, if one is.
    fn is_of_flood(&self, address: AddressKey, overcrowded: Option<usize>) -> bool {
        self.address.get() == Some(address) && overcrowded.is_none_or(|at| self.listener == at)
    }

    fn has_asked(&self) -> bool {
        self.stage.get() != Stage::Fresh
    }

    fn may_make_room(&self) -> bool {
        self.is_waiting() && !self.is_spare.get()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;
    use crate::{
        clock::Clock,
        http::connection::places::{Place, Room},
    };

    const ROOM: Room = Room { places: 8, spare: 2 };
    const FLOODED: usize = 0;
    const OTHER: usize = 1;

    /// Eight places of two listeners.
    fn places() -> Rc<Places> {
        Places::new(Clock::start(), ROOM, 2, Arc::default())
    }

    fn is_leaving(place: &Place) -> bool {
        place.standing().stage() == Stage::Leaving
    }

    fn address(number: u8) -> AddressKey {
        std::net::IpAddr::from([192, 0, 2, number]).into()
    }

    /// So many further connections that show nothing, one after the other; those that are sent
    /// away leave at once.
    async fn flood(places: &Rc<Places>, silent: &mut Vec<Place>, count: usize) {
        for _ in 0..count {
            make_way(places, silent).await;
            silent.push(places.enter_at(FLOODED));
        }
    }

    async fn make_way(places: &Rc<Places>, silent: &mut Vec<Place>) {
        for _ in 0..100 {
            if places.room().now_or_never().is_some() {
                return;
            }
            silent.retain(|place| !is_leaving(place));
            advance(HTTP_PATIENCE / 4).await;
        }
        panic!("no silent connection makes room");
    }

    /// A flood of silent connections displaces those of other listeners, whatever they do, as long
    /// as these have no more than their share.
    #[tokio::test(start_paused = true)]
    async fn a_flood_displaces_only_its_own_beyond_its_share() {
        let places = places();
        let others = [Stage::Idle, Stage::Fresh, Stage::Answering, Stage::Head];
        let others = others.map(|stage| {
            let place = places.enter_at(OTHER);
            place.standing().enter(stage);
            place
        });
        advance(10 * HTTP_PATIENCE).await;
        let mut silent = Vec::new();
        flood(&places, &mut silent, 100).await;
        assert_eq!(others.iter().filter(|place| is_leaving(place)).count(), 0);
        assert_eq!(silent.len(), ROOM.places - others.len());
        // Nor does a newcomer of theirs have to wait for more than a moment.
        drop(others);
        flood(&places, &mut silent, 100).await;
        let begun = Clock::start().instant();
        make_way(&places, &mut silent).await;
        assert!(begun.elapsed() <= HTTP_PATIENCE, "{:?}", begun.elapsed());
        assert!(places.enter_at(OTHER).standing().may_work());
    }

    /// A flood of silent connections of one address displaces its own only, however many come while
    /// others are on their way to their first requests.
    #[tokio::test(start_paused = true)]
    async fn a_flood_of_one_address_displaces_only_its_own() {
        let [flood, near, far] = [1, 2, 3].map(address);
        let room = Room { places: 64, spare: 2 };
        let places = Places::new(Clock::start(), room, 2, Arc::default());
        let named = |address| {
            let place = places.enter_at(FLOODED);
            place.set_address(address);
            place
        };
        let idle = places.enter_at(OTHER);
        idle.standing().enter(Stage::Idle);
        // A connection of a proxy, which speaks for many.
        let unnamed = places.enter_at(FLOODED);
        let slow: Vec<_> = [near, far, far].map(named).into();
        let mut silent: Vec<Place> = Vec::new();
        for _ in 0..1_000 {
            make_way(&places, &mut silent).await;
            silent.push(named(flood));
            advance(HTTP_PATIENCE / 200).await;
        }
        let stay = [&idle, &unnamed].into_iter().chain(&slow);
        assert_eq!(stay.filter(|place| is_leaving(place)).count(), 0);
        assert!(places.fresh_by_address.crowd() == Some(flood));
        drop((slow, silent, idle, unnamed));
        assert!(places.fresh_by_address.is_empty());
    }

    /// So many connections of an address that have shown nothing.
    fn silent_of(places: &Rc<Places>, address: AddressKey, count: usize) -> Vec<Place> {
        let all = (0..count).map(|_| places.enter_at(FLOODED));
        all.inspect(|place| place.set_address(address)).collect()
    }

    /// Connections of a flood whose turn has not come, and one in a spare place, keep nobody else.
    #[tokio::test(start_paused = true)]
    async fn a_flood_that_can_make_no_room_is_passed_over() {
        let places = places();
        let idle = places.enter_at(OTHER);
        idle.standing().enter(Stage::Idle);
        let flood = silent_of(&places, address(1), ROOM.places);
        assert!(flood[ROOM.places - 1].standing().is_spare());
        flood[..ROOM.places - 1].iter().for_each(|place| place.set_queued(true));
        flood[..4].iter().for_each(|place| place.standing().enter(Stage::Busy));
        advance(HTTP_PATIENCE).await;
        assert!(places.dismiss(false));
        assert!(is_leaving(&idle));
    }

    /// Connections of a flood leave whatever they have asked for, first those that have not.
    #[tokio::test(start_paused = true)]
    async fn a_flood_leaves_at_every_stage() {
        let room = Room { places: 16, spare: 2 };
        let places = Places::new(Clock::start(), room, 1, Arc::default());
        let innocent = places.enter();
        innocent.set_address(address(2));
        innocent.standing().enter(Stage::Idle);
        let stages = [Stage::Answering, Stage::Idle, Stage::Head, Stage::Lingering];
        let asked = silent_of(&places, address(1), stages.len());
        for (place, stage) in asked.iter().zip(stages) {
            place.standing().enter(stage);
        }
        advance(HTTP_PATIENCE).await;
        let of_age = silent_of(&places, address(1), 1);
        advance(HTTP_PATIENCE).await;
        let young = silent_of(&places, address(1), 10);
        for count in 0..=stages.len() {
            assert!(is_leaving(&of_age[0]) == (count > 0));
            assert_eq!(asked.iter().filter(|place| is_leaving(place)).count(), count.max(1) - 1);
            assert!(places.dismiss(false));
        }
        assert!(asked.iter().all(is_leaving) && !young.iter().any(is_leaving));
        assert!(!places.dismiss(false) && !is_leaving(&innocent));
    }

    /// Silence counts against those that make up a flood, not against those that make room.
    #[tokio::test(start_paused = true)]
    async fn connections_that_make_room_are_no_silent_ones() {
        let places = places();
        let mut alone: Vec<_> = (1..=4).flat_map(|n| silent_of(&places, address(n), 1)).collect();
        advance(HTTP_PATIENCE).await;
        assert!(places.dismiss(false));
        assert_eq!(alone.iter().filter(|place| place.is_silent()).count(), 3);
        alone.retain(|place| !is_leaving(place));
        let flood = silent_of(&places, address(5), 4);
        advance(HTTP_PATIENCE).await;
        assert!(places.dismiss(false));
        assert_eq!(flood.iter().filter(|place| is_leaving(place)).count(), 1);
        assert!(flood.iter().all(Place::is_silent));
    }

    /// Few connections of one address are no flood: then whichever has waited longest leaves.
    #[tokio::test(start_paused = true)]
    async fn few_connections_of_one_address_are_no_flood() {
        let places = Places::new(Clock::start(), Room { places: 64, spare: 2 }, 1, Arc::default());
        let oldest = places.enter();
        oldest.standing().enter(Stage::Idle);
        advance(HTTP_PATIENCE).await;
        let all = (0..63).map(|number| {
            let place = places.enter();
            place.set_address(address(number / 3));
            place
        });
        let all: Vec<_> = all.collect();
        advance(HTTP_PATIENCE).await;
        assert!(places.dismiss(false));
        assert!(is_leaving(&oldest));
        assert_eq!(all.iter().filter(|place| is_leaving(place)).count(), 0);
    }

    /// A listener's share is not withheld from it by those of another that are idle.
    #[tokio::test(start_paused = true)]
    async fn idle_connections_beyond_a_share_leave() {
        let places = places();
        let mut idle: Vec<_> = (0..6).map(|_| places.enter_at(OTHER)).collect();
        idle.iter().for_each(|place| place.standing().enter(Stage::Idle));
        advance(2 * HTTP_PATIENCE).await;
        let mut silent = Vec::new();
        flood(&places, &mut silent, 2).await;
        assert!(places.room().now_or_never().is_none());
        idle.retain(|place| !is_leaving(place));
        assert_eq!((idle.len(), silent.len()), (5, 2), "the one that has waited longest is gone");
        flood(&places, &mut silent, 1).await;
    }

    /// Counts of connections that have shown nothing follow each of them, spare places too.
    #[tokio::test(start_paused = true)]
    async fn connections_are_counted_until_they_show_a_request() {
        let places = places();
        let fresh = || [FLOODED, OTHER].map(|listener| places.fresh[listener].get());
        let mut all: Vec<_> = (0..ROOM.places).map(|index| places.enter_at(index % 2)).collect();
        let spare = places.enter_at(OTHER);
        assert_eq!(fresh(), [4, 4]);
        all[0].standing().enter(Stage::Busy);
        all[2].standing().enter(Stage::Fresh);
        drop(all.remove(1));
        assert_eq!(fresh(), [3, 3]);
        assert!(spare.standing().may_work());
        assert_eq!(fresh(), [3, 4]);
        advance(HTTP_PATIENCE).await;
        assert!(places.dismiss(false));
        assert_eq!(fresh().iter().sum::<usize>(), 6);
        drop((all, spare));
        assert_eq!(fresh(), [0, 0]);
    }

    /// Accept loops get room in turns, however fast one of them is.
    #[tokio::test(start_paused = true)]
    async fn accept_loops_wait_in_line() {
        let places = places();
        let mut all: Vec<_> = (0..ROOM.places).map(|_| places.enter_at(OTHER)).collect();
        all.iter().for_each(|place| place.standing().enter(Stage::Busy));
        let (mut first, mut second) = (Box::pin(places.room()), Box::pin(places.room()));
        assert!((&mut first).now_or_never().is_none() && (&mut second).now_or_never().is_none());
        all.truncate(ROOM.places - 2);
        assert!((&mut first).now_or_never().is_some());
        all.push(places.enter_at(FLOODED));
        first = Box::pin(places.room());
        assert!((&mut first).now_or_never().is_none(), "the other one was there before");
        assert!((&mut second).now_or_never().is_some());
    }
}
