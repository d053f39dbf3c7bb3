//! The primary behind sentinels, as the process believes: one truth for all its threads.
//!
//! Sentinels order their configurations by an epoch that rises with each failover, and the newest
//! wins among them. The same holds here, but one sentinel alone proves nothing: it may lag, or lie,
//! and the server that it names gets the password. So a primary is accepted because most of the
//! sentinels in the URL name it, under a newer epoch than any that most named before. There are two
//! exceptions. A replica that sentinels have chosen, that most of them know as one, and that
//! reports itself to be the primary now, is one a second before they say so. And epochs may be
//! forgotten (sentinels set up anew): a primary that most have named for long is accepted whatever
//! its epoch. No IO here.
//!
//! A primary is what Redis calls a master on the wire: in `ROLE`, `INFO`, `SENTINEL` and its error
//! codes, and in the metrics' labels for these.

use fred::prelude::Server;
use tokio::sync::watch;

use crate::{
    clock::Millis,
    limits::{SENTINEL_MAJORITY_PATIENCE, TAKEOVER_LOOK_MAX, TAKEOVER_WAIT},
};

/// A sentinel's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// The configuration's.
    pub(crate) epoch: u64,
    pub(crate) primary: Server,
    pub(super) replicas: Vec<Server>,
}

#[derive(Clone, Debug)]
struct Elected {
    epoch: u64,
    primary: Server,
}

/// The conclusion from all reports.
///
/// # Invariants
/// - The believed epoch never falls: what was overruled once does not come back by its epoch.
/// - It is one that most sentinels had reached: no single one can put it out of their reach.
#[derive(Debug)]
pub(super) struct PrimaryElection {
    /// By sentinel; None: it says nothing.
    views: Vec<Option<View>>,
    elected: Option<Elected>,
    /// Another primary that most name, and since when.
    challenger: Option<(Server, Millis)>,
}

impl PrimaryElection {
    pub(crate) fn new(sentinels: usize) -> Self {
        Self { views: vec![None; sentinels], elected: None, challenger: None }
    }

    /// A sentinel says something, or nothing any more. Returns the primary if it is another now.
    pub(super) fn update(
        &mut self,
        sentinel: usize,
        view: Option<View>,
        now: Millis,
    ) -> Option<Server> {
        let before = self.server().cloned();
        self.views[sentinel] = view;
        let epoch = self.elected.as_ref().map(|elected| elected.epoch);
        if let Some(most) = self.most()
            && epoch.is_none_or(|epoch| most.epoch > epoch)
        {
            self.elected = Some(most);
        }
        self.follow_most(now);
        self.server().filter(|primary| before.as_ref() != Some(primary)).cloned()
    }

    /// A replica that was chosen has become the primary. Returns it if that is news.
    pub(super) fn promote_early(&mut self, primary: &Server) -> Option<Server> {
        let elected = self.elected.as_mut()?;
        let is_news = elected.primary != *primary;
        elected.primary.clone_from(primary);
        is_news.then(|| primary.clone())
    }

    fn server(&self) -> Option<&Server> {
        self.elected.as_ref().map(|elected| &elected.primary)
    }

    fn follow_most(&mut self, now: Millis) {
        let most = self.most().map(|most| most.primary);
        let Some(most) = most.filter(|most| self.server() != Some(most)) else {
            self.challenger = None;
            return;
        };
        let since = match &self.challenger {
            Some((challenged, since)) if *challenged == most => *since,
            _ => now,
        };
        self.challenger = Some((most.clone(), since));
        if now - since >= SENTINEL_MAJORITY_PATIENCE
            && let Some(elected) = &mut self.elected
        {
            elected.primary = most;
            self.challenger = None;
        }
    }

    /// The primary that more than half of all sentinels name, and the newest epoch that so many of
    /// these have reached.
    fn most(&self) -> Option<Elected> {
        let needed = self.needed();
        self.views.iter().flatten().find_map(|View { primary, .. }| {
            let naming = self.views.iter().flatten().filter(|view| view.primary == *primary);
            let mut epochs: Vec<u64> = naming.map(|view| view.epoch).collect();
            epochs.sort_unstable_by(|one, other| other.cmp(one));
            let epoch = *epochs.get(needed - 1)?;
            Some(Elected { epoch, primary: primary.clone() })
        })
    }

    /// Whether most sentinels know `server` as a replica of the primary, or name it as such.
    pub(super) fn knows(&self, server: &Server) -> bool {
        let knows = |view: &&View| view.primary == *server || view.replicas.contains(server);
        self.views.iter().flatten().filter(knows).count() >= self.needed()
    }

    /// How many sentinels have to say the same.
    pub(super) fn needed(&self) -> usize {
        self.views.len() / 2 + 1
    }
}

/// Where the process goes: what its threads see of the election.
#[derive(Debug)]
pub(crate) struct CurrentPrimary {
    state: watch::Sender<State>,
}

#[derive(Clone, Debug, Default)]
struct State {
    /// None: it is not known, or there are no sentinels.
    server: Option<Server>,
    /// Publishing waits for the next primary, no longer than this.
    takeover: Option<Millis>,
    /// That one is known: only the connections to it are not open yet.
    is_over: bool,
}

impl CurrentPrimary {
    pub(crate) fn new() -> Self {
        Self { state: watch::Sender::default() }
    }

    /// The primary, if sentinels have named one.
    pub(crate) fn server(&self) -> Option<Server> {
        self.state.borrow().server.clone()
    }

    /// The primary, as soon as there is one.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub(crate) async fn wait_known(&self) -> Server {
        let mut state = self.state.subscribe();
        let known = state.wait_for(|state| state.server.is_some()).await;
        match known.ok().and_then(|state| state.server.clone()) {
            Some(primary) => primary,
            // The sender is gone: it never resolves.
            None => std::future::pending().await,
        }
    }

    /// Whether another server than `server` is the primary.
    pub(crate) fn is_replaced(&self, server: &Server) -> bool {
        self.state.borrow().server.as_ref().is_some_and(|primary| primary != server)
    }

    /// Resolves when another server than `server` is the primary.
    ///
    /// # Cancel safety
    /// May be dropped: it only looks.
    pub(crate) async fn replaced(&self, server: &Server) {
        let mut state = self.state.subscribe();
        let elsewhere =
            |state: &State| state.server.as_ref().is_some_and(|primary| primary != server);
        if state.wait_for(elsewhere).await.is_err() {
            // The sender is gone: it never resolves.
            std::future::pending::<()>().await;
        }
    }

    /// Another primary takes over in a moment: what the old one would take now might be lost.
    pub(super) fn expect_takeover(&self, now: Millis) {
        self.state.send_modify(|state| {
            state.takeover = Some(now + TAKEOVER_WAIT);
            state.is_over = false;
        });
    }

    /// Whether it is long enough ago that a takeover was expected: one that is announced again and
    /// again, and never comes, does not hold up publishing all the time.
    pub(super) fn is_foreseeable(&self, now: Millis) -> bool {
        let state = self.state.borrow();
        state.is_over || state.takeover.is_none_or(|until| now >= until + TAKEOVER_LOOK_MAX)
    }

    /// `primary` is it now. Connections that are elsewhere go there.
    pub(super) fn set(&self, primary: Server, now: Millis) {
        self.state.send_modify(|state| {
            state.takeover = state.server.is_some().then(|| now + TAKEOVER_WAIT);
            state.is_over = true;
            state.server = Some(primary);
        });
    }

    /// The connections to the same, or to another server, are made anew.
    pub(super) fn reconnecting(&self, now: Millis) {
        self.state.send_modify(|state| {
            state.takeover = Some(now + TAKEOVER_WAIT);
            state.is_over = true;
        });
    }

    /// Whether a message that could (or could not) be sent now had better wait for a takeover.
    pub(crate) fn is_takeover_awaited(&self, is_up: bool, now: Millis) -> bool {
        let state = self.state.borrow();
        state.takeover.is_some_and(|until| now < until) && !(state.is_over && is_up)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn server(port: u16) -> Server {
        Server::from(("10.0.0.1", port))
    }

    fn view(epoch: u64, port: u16) -> Option<View> {
        Some(View { epoch, primary: server(port), replicas: vec![server(7), server(port + 10)] })
    }

    const START: Millis = Millis(1000);

    #[test]
    fn a_newer_epoch_is_believed_when_most_say_so() {
        let mut election = PrimaryElection::new(3);
        assert_eq!(election.update(0, view(0, 1), START), None, "one of three");
        assert_eq!(election.update(1, view(0, 1), START), Some(server(1)));
        assert_eq!(election.update(1, view(1, 2), START), None, "one of three");
        assert_eq!(election.update(0, view(0, 1), START), None, "it lags");
        assert_eq!(election.update(0, view(1, 2), START), Some(server(2)));
        assert_eq!(election.update(2, view(2, 1), START), None);
        assert_eq!(election.update(1, view(2, 1), START), Some(server(1)));
    }

    #[test]
    fn one_that_lies_gets_nobody_anywhere() {
        let mut election = PrimaryElection::new(3);
        assert_eq!(election.update(0, view(u64::MAX, 666), START), None);
        assert_eq!(election.update(1, view(3, 1), START), None);
        assert_eq!(election.update(2, view(3, 1), START), Some(server(1)));
        for second in 0..1_000 {
            let now = START + Duration::from_secs(second);
            assert_eq!(election.update(0, view(u64::MAX - second, 666), now), None);
            assert!(!election.knows(&server(676)) && election.knows(&server(7)));
        }
        // The right primary under an epoch that none will ever reach.
        assert_eq!(election.update(0, view(u64::MAX, 1), START), None);
        assert_eq!(election.update(1, view(4, 2), START), None);
        assert_eq!(election.update(2, view(4, 2), START), Some(server(2)));
    }

    #[test]
    fn of_two_both_are_needed_and_of_one_that_one() {
        let mut election = PrimaryElection::new(2);
        assert_eq!(election.update(0, view(1, 1), START), None);
        assert_eq!(election.update(1, view(1, 1), START), Some(server(1)));
        assert_eq!(PrimaryElection::new(1).update(0, view(1, 1), START), Some(server(1)));
    }

    #[test]
    fn two_who_differ_under_one_epoch_make_nobody_move() {
        let mut election = PrimaryElection::new(2);
        election.update(0, view(4, 1), START);
        assert_eq!(election.update(1, view(4, 1), START), Some(server(1)));
        for second in 0..100 {
            let now = START + Duration::from_secs(second);
            assert_eq!(election.update(1, view(4, 2), now), None);
            assert_eq!(election.update(0, view(4, 1), now), None);
        }
    }

    /// The primary that most sentinels have named for long is believed once and for good.
    #[test]
    fn a_lasting_majority_is_believed() {
        let mut election = PrimaryElection::new(3);
        election.update(0, view(6, 2), START);
        assert_eq!(election.update(1, view(6, 2), START), Some(server(2)));
        assert_eq!(election.update(1, view(0, 1), START), None);
        assert_eq!(election.update(2, view(0, 1), START), None);
        let soon = START + SENTINEL_MAJORITY_PATIENCE / 2;
        assert_eq!(election.update(2, None, soon), None, "only one says so now");
        assert_eq!(election.update(2, view(0, 1), soon), None);
        let then = START + SENTINEL_MAJORITY_PATIENCE;
        assert_eq!(election.update(1, view(0, 1), then), None, "not for long enough");
        let later = soon + SENTINEL_MAJORITY_PATIENCE;
        assert_eq!(election.update(1, view(0, 1), later), Some(server(1)));
        assert_eq!(election.update(0, view(6, 2), later), None);
        assert_eq!(election.update(1, view(6, 2), later), None, "it was overruled");
        assert_eq!(election.update(1, view(7, 2), later), None);
        assert_eq!(election.update(0, view(7, 2), later), Some(server(2)));
    }

    /// A replica that was promoted is believed before sentinels name it.
    #[test]
    fn a_promoted_replica_is_believed_early() {
        let mut election = PrimaryElection::new(1);
        assert_eq!(election.promote_early(&server(2)), None, "nothing is known yet");
        assert_eq!(election.update(0, view(0, 1), START), Some(server(1)));
        assert_eq!(election.promote_early(&server(2)), Some(server(2)));
        assert_eq!(election.update(0, view(0, 1), START), None, "they say so in a moment");
        assert_eq!(election.update(0, view(1, 2), START), None, "there it is");
        assert_eq!(election.promote_early(&server(2)), None);
    }

    /// Publishing waits for a takeover and the way there but not for long.
    #[test]
    fn publishing_waits_for_a_takeover() {
        let primary = CurrentPrimary::new();
        assert!(!primary.is_takeover_awaited(false, START), "there is no primary to lose");
        primary.set(server(1), START);
        assert!(!primary.is_takeover_awaited(false, START), "nor at the start");
        primary.expect_takeover(START);
        assert!(primary.is_takeover_awaited(true, START));
        assert!(!primary.is_takeover_awaited(true, START + TAKEOVER_WAIT));
        primary.set(server(2), START);
        assert!(primary.is_takeover_awaited(false, START), "the way is new");
        assert!(!primary.is_takeover_awaited(true, START));
        assert!(!primary.is_takeover_awaited(false, START + TAKEOVER_WAIT));
        assert!(primary.is_replaced(&server(1)) && !primary.is_replaced(&server(2)));
    }
}
