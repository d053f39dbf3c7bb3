//! Which shard serves an accepted connection.
//!
//! Nearly always it is the shard whose socket the connection came in on: the kernel spreads
//! connections over the shards' sockets. Two things move a connection: a shard that holds clearly
//! more than the mean for some time passes new ones to the shard that holds least, and the control
//! thread accepts for a shard that is silent (server/). Both are decided on the control thread: an
//! accept looks at one number of its own shard. A moved connection is in its new shard's queue
//! until that shard takes it, and can be taken back from there. Nothing here accepts or speaks
//! HTTP.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Mutex as AsyncMutex, Notify},
    time::sleep,
};

use super::{listener::Accepted, run_queue::RunQueue};
use crate::{
    clock::{Clock, Millis},
    limits::{HTTP_CROWDED_LOOK, PLACEMENT_SLACK_MIN, SHARD_STALL_ACCEPT},
    metrics::{Placed, ShardMetrics},
};

/// All shards, as seen by an acceptor that has a connection to give away.
#[derive(Debug)]
pub struct Placement {
    seats: Box<[Seat]>,
    /// Acceptors that wait for room.
    line: AsyncMutex<()>,
}

/// One shard.
#[derive(Debug)]
struct Seat {
    metrics: Arc<ShardMetrics>,
    /// Connections that are here or on their way, and no clients (yet).
    arriving: Arc<AtomicUsize>,
    /// At this number of them, no more are given to it.
    arriving_max: usize,
    /// By how many it was above the mean and the slack at the last look.
    excess: AtomicUsize,
    /// How many of the next connections it passes on.
    to_pass: AtomicUsize,
    moved: Mutex<VecDeque<Moved>>,
    filled: Notify,
    /// Where the system says how long its thread has waited for a CPU.
    run_queue: OnceLock<RunQueue>,
    /// That time at its last beat, nanoseconds.
    waited_at_beat_ns: AtomicU64,
    /// The time added to it since, as of the last look.
    excused_ns: AtomicU64,
}

/// A connection on its way to the shard that will serve it.
#[derive(Debug)]
pub(crate) struct Moved {
    pub(crate) accepted: Accepted,
    pub(super) newcomer: Newcomer,
    pub(crate) why: Placed,
}

/// Counts a connection as its shard's while it is no client (yet). Clients are in the gauge.
#[derive(Debug)]
pub(crate) struct Newcomer(Arc<AtomicUsize>);

impl Newcomer {
    fn of(seat: &Seat) -> Self {
        seat.arriving.fetch_add(1, Ordering::Relaxed);
        Self(seat.arriving.clone())
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Placement {
    /// One seat per shard, in order, each with room for so many HTTP connections.
    #[must_use]
    pub fn new(shards: &[Arc<ShardMetrics>], arriving_max: usize) -> Self {
        let seat = |metrics: &Arc<ShardMetrics>| Seat {
            metrics: metrics.clone(),
            arriving: Arc::default(),
            arriving_max,
            excess: AtomicUsize::new(0),
            to_pass: AtomicUsize::new(0),
            moved: Mutex::default(),
            filled: Notify::new(),
            run_queue: OnceLock::new(),
            waited_at_beat_ns: AtomicU64::new(0),
            excused_ns: AtomicU64::new(0),
        };
        Self { seats: shards.iter().map(seat).collect(), line: AsyncMutex::default() }
    }

    /// The calling thread is the one of `shard`.
    pub(super) fn runs_here(&self, shard: usize) {
        if let Some(run_queue) = RunQueue::of_this_thread() {
            // The first one stays: a shard has one thread.
            let _ = self.seats[shard].run_queue.set(run_queue);
        }
    }

    /// `shard` beats; the calling thread is its own.
    pub(super) fn beats(&self, shard: usize, now: Millis) {
        let seat = &self.seats[shard];
        if let Some(waited) = seat.waited() {
            seat.waited_at_beat_ns.store(waited, Ordering::Relaxed);
        }
        seat.excused_ns.store(0, Ordering::Relaxed);
        seat.metrics.beat_ms.set(now.0);
    }

    /// If `shard` is late, finds out how much of that time it has only waited for a CPU.
    pub fn excuse(&self, shard: usize, now: Millis) {
        let seat = &self.seats[shard];
        let beat = seat.last_beat();
        if now - beat < SHARD_STALL_ACCEPT / 2 {
            return;
        }
        let Some(waited) = seat.waited() else { return };
        let waited = waited.saturating_sub(seat.waited_at_beat_ns.load(Ordering::Relaxed));
        // It may have beaten meanwhile; then the excuse is for a silence that is over.
        if seat.last_beat() == beat {
            seat.excused_ns.store(waited, Ordering::Relaxed);
        }
    }

    /// The shard has not beaten for so long, though it had a CPU, that it can't be accepting.
    #[must_use]
    pub fn is_silent(&self, shard: usize, now: Millis) -> bool {
        !self.seats[shard].is_live(now)
    }

    /// Whether some shard is alive and has room for a connection.
    #[must_use]
    pub fn has_room(&self, now: Millis) -> bool {
        self.seats.iter().any(|seat| seat.is_live(now) && seat.has_room())
    }

    /// Waits until some shard has room for a connection. Acceptors wait in line, so that a flood at
    /// the listener of one takes no more than its turn.
    ///
    /// # Cancel safety
    /// May be dropped.
    pub async fn room(&self, clock: Clock) {
        let _first = self.line.lock().await;
        while !self.has_room(clock.now()) {
            sleep(HTTP_CROWDED_LOOK).await;
        }
    }

    /// Gives a connection to the live shard that holds least. It always gets somewhere: an
    /// acceptor asks [`Placement::room`] first, so the bound is passed by one per acceptor.
    pub fn place(&self, accepted: Accepted, why: Placed, now: Millis) {
        let rank = |seat: &&Seat| (!seat.is_live(now), !seat.has_room(), seat.load());
        let seat = self.seats.iter().min_by_key(rank).expect("there is at least one shard");
        seat.post(accepted, why);
    }

    /// Gives away the connections in the queue of a silent shard; returns how many there were.
    pub fn take_back(&self, shard: usize, now: Millis) -> usize {
        let mut taken = 0;
        while self.has_room(now) {
            let Some(moved) = self.seats[shard].lock().pop_front() else { break };
            self.place(moved.accepted, Placed::Stalled, now);
            taken += 1;
        }
        taken
    }

    /// Decides how many connections each shard passes on until the next call: the excess that it
    /// has had both now and at the last call, [`crate::limits::PLACEMENT_INTERVAL`] ago. In a burst
    /// the shard that has just had its turn is ahead for a moment. When such differences were
    /// looked at with each accept, they moved two of three connections and took a fifth of the rate
    /// of accepting; looked at every 50 ms they left the shards further apart than the kernel does.
    pub fn level(&self) {
        let loads: Vec<_> = self.seats.iter().map(Seat::load).collect();
        let mean = loads.iter().sum::<usize>() / loads.len();
        for (seat, load) in self.seats.iter().zip(loads) {
            let excess = load.saturating_sub(mean + slack(mean));
            let before = seat.excess.swap(excess, Ordering::Relaxed);
            seat.to_pass.store(excess.min(before), Ordering::Relaxed);
        }
    }

    /// Counts a connection that `shard` has accepted.
    pub(super) fn newcomer(&self, shard: usize) -> Newcomer {
        Newcomer::of(&self.seats[shard])
    }

    /// Whether `shard` gives the connection away that it has just accepted.
    pub(super) fn passes_on(&self, shard: usize) -> bool {
        let to_pass = &self.seats[shard].to_pass;
        to_pass.load(Ordering::Relaxed) > 0
            && to_pass
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }

    /// How many connections are on their way to `shard` and not taken yet.
    pub(super) fn on_their_way(&self, shard: usize) -> usize {
        self.seats[shard].lock().len()
    }

    /// The next connection that was moved to `shard`.
    ///
    /// # Cancel safety
    /// May be dropped: what came in between wakes the next call.
    pub(crate) async fn moved(&self, shard: usize) -> Moved {
        let seat = &self.seats[shard];
        loop {
            if let Some(moved) = seat.lock().pop_front() {
                return moved;
            }
            seat.filled.notified().await;
        }
    }
}

/// By how much a shard may be above the mean. A moved connection costs a wake-up of another thread,
/// an unmoved one costs the shard's last clients a microsecond per message. So with few clients a
/// small number is ignored, and with thousands the few per cent by which the kernel's spread is
/// off.
fn slack(mean: usize) -> usize {
    PLACEMENT_SLACK_MIN.max(mean / 32)
}

impl Seat {
    fn load(&self) -> usize {
        let clients = usize::try_from(self.metrics.connections.get()).unwrap_or(usize::MAX);
        clients.saturating_add(self.arriving.load(Ordering::Relaxed))
    }

    fn is_live(&self, now: Millis) -> bool {
        let excused = Duration::from_nanos(self.excused_ns.load(Ordering::Relaxed));
        (now - self.last_beat()).saturating_sub(excused) < SHARD_STALL_ACCEPT
    }

    /// How long its thread has waited for a CPU since it began, nanoseconds; None where the system
    /// does not tell.
    fn waited(&self) -> Option<u64> {
        let waited = self.run_queue.get()?.waited()?;
        Some(u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX))
    }

    fn last_beat(&self) -> Millis {
        Millis(self.metrics.beat_ms.get())
    }

    /// A shard with all places held makes room for a moved connection when it arrives.
    fn has_room(&self) -> bool {
        self.arriving.load(Ordering::Relaxed) < self.arriving_max
    }

    fn post(&self, accepted: Accepted, why: Placed) {
        let newcomer = Newcomer::of(self);
        self.lock().push_back(Moved { accepted, newcomer, why });
        self.filled.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Moved>> {
        // A panic elsewhere leaves a queue of whole connections.
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    use crate::shard::listener::{Entrance, Transport};

    const NOW: Millis = Millis(10_000);
    const PLACES: usize = 100;

    /// Shards that have just beaten and hold so many clients.
    fn shards(clients: &[u64]) -> (Vec<Arc<ShardMetrics>>, Placement) {
        let shard = |&clients: &u64| {
            let metrics = Arc::new(ShardMetrics::default());
            metrics.connections.set(clients);
            metrics.beat_ms.set(NOW.0);
            metrics
        };
        let metrics: Vec<_> = clients.iter().map(shard).collect();
        let placement = Placement::new(&metrics, PLACES);
        (metrics, placement)
    }

    fn connection() -> Accepted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let entrance = Entrance { listener: 0, transport: Transport::Plain };
        Accepted { stream, entrance }
    }

    fn arriving(placement: &Placement) -> Vec<usize> {
        placement.seats.iter().map(|seat| seat.arriving.load(Ordering::Relaxed)).collect()
    }

    /// The live shard that holds least gets it, and connections on their way count.
    #[test]
    fn the_live_shard_that_holds_least_gets_it() {
        let (metrics, placement) = shards(&[4, 0, 2]);
        for _ in 0..6 {
            placement.place(connection(), Placed::Stalled, NOW);
        }
        assert_eq!(arriving(&placement), [0, 4, 2]);
        metrics[1].beat_ms.set(NOW.0 - 1000);
        placement.place(connection(), Placed::Stalled, NOW);
        assert_eq!(arriving(&placement), [1, 4, 2], "shard 1 is silent");
    }

    #[test]
    fn a_shard_that_only_waits_for_a_cpu_is_not_silent() {
        let (metrics, placement) = shards(&[0, 0]);
        metrics[0].beat_ms.set(NOW.0 - 500);
        let excuse =
            |ms: u64| placement.seats[0].excused_ns.store(ms * 1_000_000, Ordering::Relaxed);
        excuse(350);
        assert!(!placement.is_silent(0, NOW));
        excuse(200);
        assert!(placement.is_silent(0, NOW), "it had a CPU for 300 ms");
        placement.beats(0, NOW);
        assert!(!placement.is_silent(0, NOW));
    }

    /// Connections that a silent shard has not taken go to others, and none is lost.
    #[test]
    fn a_silent_shards_connections_go_to_others() {
        let (metrics, placement) = shards(&[0, 9]);
        for _ in 0..3 {
            placement.place(connection(), Placed::Balance, NOW);
        }
        assert_eq!(arriving(&placement), [3, 0]);
        metrics[0].beat_ms.set(NOW.0 - 1000);
        assert!(placement.is_silent(0, NOW) && !placement.is_silent(1, NOW));
        assert_eq!(placement.take_back(0, NOW), 3);
        assert_eq!(arriving(&placement), [0, 3]);
        metrics[1].beat_ms.set(NOW.0 - 1000);
        assert_eq!(placement.take_back(1, NOW), 0, "nobody is alive");
        assert_eq!(arriving(&placement), [0, 3]);
    }

    #[test]
    fn full_shards_have_no_room() {
        let (_, placement) = shards(&[0]);
        let newcomers: Vec<_> = (0..PLACES).map(|_| placement.newcomer(0)).collect();
        assert!(!placement.has_room(NOW));
        drop(newcomers);
        assert!(placement.has_room(NOW));
    }

    /// A shard with clearly more than the mean passes on its excess.
    #[test]
    fn a_shard_far_above_the_mean_passes_the_surplus_on() {
        for (clients, too_many) in [
            (&[100][..], 0),
            (&[10, 10, 10, 10], 0),
            (&[18, 10, 6, 6], 0),
            (&[30, 10, 0, 0], 12),
            (&[1031, 1000, 1000, 969], 0),
            (&[1041, 1000, 1000, 959], 10),
            (&[0, 1000, 1000, 1000], 0),
        ] {
            let (_, placement) = shards(clients);
            placement.level();
            assert!(!placement.passes_on(0), "it may be for a moment: {clients:?}");
            placement.level();
            let passed = (0..100).filter(|_| placement.passes_on(0)).count();
            assert_eq!(passed, too_many, "{clients:?}");
        }
    }

    /// A shard that was ahead for a moment passes nothing on.
    #[test]
    fn a_shard_briefly_ahead_passes_nothing_on() {
        let (metrics, placement) = shards(&[100, 0]);
        placement.level();
        metrics[1].connections.set(100);
        placement.level();
        assert!(!placement.passes_on(0) && !placement.passes_on(1));
    }
}
