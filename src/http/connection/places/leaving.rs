//! The connection that leaves when places run out.
//!
//! It is the one that has kept the server waiting longest: idle, silent, or with a request whose
//! head does not end. But each listener has its share of the places, and a flood is the matter of
//! the listener that it comes to: while connections that have shown no request hold the whole share
//! of one, only they leave, the oldest of them first. TLS and what a proxy announces come before a
//! request. Before all of these go connections without a request of an address that holds many
//! places with them: a flood is the matter of the address that it comes from, too.

use std::{cell::RefCell, rc::Rc};

use tokio::time::Instant;

use super::{Places, Stage, Standing, increase};
use crate::{
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
        // Those that crowd the others out come of age at any moment.
        let is_crowded = || self.overcrowded().is_some() || self.fresh_by_address.crowd().is_some();
        let may_go = of_spare || !is_crowded();
        let half_done =
            |one: &Standing| may_go && one.is_spare.get() == of_spare && one.is_half_done();
        let found = found.or_else(|| self.longest(now, half_done));
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
        let crowds = |one: &Standing| {
            crowd.is_none_or(|at| one.stage.get() == Stage::Fresh && one.listener == at)
        };
        if let Some(flood) = self.fresh_by_address.crowd() {
            let is_of_flood = |one: &Standing| {
                let is_its_own = one.address.get() == Some(flood);
                is_its_own && one.stage.get() == Stage::Fresh && one.is_waiting() && crowds(one)
            };
            let found = self.next_among(now, &self.next_of_flood, is_of_flood);
            // Others do not go for those that are too young, and come of age at any moment.
            if found.is_some() || self.seated.borrow().iter().any(|(_, one)| is_of_flood(one)) {
                return found;
            }
        }
        self.next_among(now, &self.next_to_leave, crowds)
    }

    /// The connection that has waited longest among those that `may_leave`, by the list of such.
    fn next_among(
        &self,
        now: Instant,
        list: &RefCell<Vec<(usize, Instant)>>,
        may_leave: impl Fn(&Standing) -> bool,
    ) -> Option<Rc<Standing>> {
        let may_leave = |one: &Standing| one.is_waiting() && !one.is_spare.get() && may_leave(one);
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
            next.extend(waiting.map(|(key, one)| (key, one.since.get())));
            if next.len() > HTTP_PLACES_TO_LEAVE {
                next.select_nth_unstable_by_key(HTTP_PLACES_TO_LEAVE, |(_, since)| *since);
                next.truncate(HTTP_PLACES_TO_LEAVE);
            }
            next.sort_unstable_by_key(|(_, since)| std::cmp::Reverse(*since));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tokio::time::advance;

    use super::*;
    use crate::{
        admission::AddressKey,
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
