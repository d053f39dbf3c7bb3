//! The control thread's loop on a paused clock, with guards in place of clients.

use std::{cell::Cell, rc::Rc};

use tokio::{
    sync::mpsc::Sender,
    task::{JoinHandle, LocalSet, spawn_local, yield_now},
};

use super::*;
use crate::{
    drain::{DrainRecord, Guard},
    limits::{SHARD_BEAT_INTERVAL, SIGNAL_MERGE},
    metrics::ShardMetrics,
    record::recordings::through_bytes,
    server::signals::{self, Signal::Terminate},
};

const SETTINGS: DrainSettings = DrainSettings {
    pre_delay: Duration::ZERO,
    timeout: Duration::from_secs(1800),
    close_over: Duration::from_secs(60),
};
const DRAIN: Command =
    Command::Steer(Steering { timeout: None, close_over: None, closes_now: false });
const UNDRAIN: Command = Command::Undrain { is_forced: false };
const FORCED: Command = Command::Undrain { is_forced: true };

/// A loop that runs, and the other ends of it.
struct World {
    clock: Clock,
    shards: Vec<Arc<ShardMetrics>>,
    /// This shard does not beat; the others do.
    hanging: Rc<Cell<Option<usize>>>,
    control: Arc<Control>,
    signals: Sender<Signal>,
    deaths: Sender<Death>,
    running: JoinHandle<End>,
}

/// Runs `test` beside the loop; both on this thread.
async fn beside<R>(test: impl AsyncFnOnce(World) -> R) -> R {
    let test = async |world, client| {
        drop(client);
        test(world).await
    };
    continuing(DrainRecord::default(), test).await
}

/// The same with a loop that goes on with another one's drain, and a client that is there before.
async fn continuing<R>(record: DrainRecord, test: impl AsyncFnOnce(World, Guard) -> R) -> R {
    let control = Arc::new(Control::default());
    let (signals, received) = signals::channel();
    let (deaths, died) = mpsc::channel(1);
    let clock = Clock::start();
    let shards: Vec<_> = (0..3).map(|_| Arc::new(ShardMetrics::default())).collect();
    let inputs = Inputs {
        signals: received,
        deaths: died,
        reloads: Reloads::new(Vec::new()),
        upgrades: UpgradeSignal::default(),
        shards: ShardWatch::new(&shards),
        milestones: Rc::default(),
    };
    control.go_on(SETTINGS, &record, clock.now());
    let client = control.barrier.client();
    let mut coordinator = Coordinator::new(clock, control.clone(), SETTINGS, inputs);
    let body = async {
        let running = spawn_local(async move { coordinator.run().await });
        yield_now().await;
        let hanging = Rc::new(Cell::new(None));
        spawn_local(beat(clock, shards.clone(), hanging.clone()));
        let world = World { clock, shards, hanging, control, signals, deaths, running };
        test(world, client).await
    };
    LocalSet::new().run_until(body).await
}

/// The beats of all shards but the one that hangs.
async fn beat(clock: Clock, shards: Vec<Arc<ShardMetrics>>, hanging: Rc<Cell<Option<usize>>>) {
    loop {
        for (index, shard) in shards.iter().enumerate() {
            if hanging.get() != Some(index) {
                shard.beat_ms.set(clock.now().0);
            }
        }
        sleep(SHARD_BEAT_INTERVAL).await;
    }
}

fn limit(seconds: u64) -> Command {
    let timeout = Some(Duration::from_secs(seconds));
    Command::Steer(Steering { timeout, ..Steering::default() })
}

impl World {
    fn client(&self) -> Guard {
        self.control.barrier.client()
    }

    async fn signal(&self) {
        self.signals.send(Terminate("a test")).await.unwrap();
        // Longer than signals count as one.
        sleep(SIGNAL_MERGE * 2).await;
    }

    async fn ask(&self, command: Command) -> Result<Phase, Refused> {
        let answer = self.control.ask(command).await?;
        let phase = answer.drain.map_or(Phase::Serving, |drain| drain.phase);
        assert!(self.control.phase() >= phase, "all threads know before it is answered");
        Ok(phase)
    }
}

/// A drain goes on in another process with its times, and the signals count on.
#[tokio::test(start_paused = true)]
async fn a_drain_goes_on_elsewhere() {
    let record = beside(async |world| {
        let _client = world.client();
        world.signal().await;
        sleep(Duration::from_secs(1000)).await;
        world.control.record(world.clock.now())
    });
    let record: DrainRecord = through_bytes(&record.await);
    let end = continuing(record, async |world, _client| {
        let phase = || world.control.phase();
        assert_eq!(world.ask(UNDRAIN).await, Err(Refused::Signalled));
        sleep(Duration::from_secs(735)).await;
        assert_eq!(phase(), Phase::Waiting);
        sleep(Duration::from_secs(10)).await;
        assert_eq!(phase(), Phase::Closing);
        let left = world.control.closing_window(world.clock.now()).unwrap().0.as_secs();
        assert!((45..60).contains(&left), "the rest of the window: {left}");
        world.signal().await;
        assert_eq!(phase(), Phase::Stopped, "it was the second one");
        world.running.await.unwrap()
    });
    assert_eq!(end.await, End::Stopped);
}

/// A drain that is taken back while the last client leaves either goes on to its end or does not
/// end at all.
#[tokio::test(start_paused = true)]
async fn an_undrain_as_the_barrier_opens_is_all_or_nothing() {
    let mut taken_back = 0;
    for round in 0..30 {
        taken_back += beside(async |world| {
            let last = world.client();
            world.ask(DRAIN).await.unwrap();
            let (asked, ()) = tokio::join!(world.ask(UNDRAIN), async {
                if round % 3 == 0 {
                    yield_now().await;
                }
                drop(last);
            });
            match asked {
                Ok(phase) => {
                    assert_eq!(phase, Phase::Serving);
                    sleep(Duration::from_secs(100)).await;
                    assert!(!world.running.is_finished(), "it serves");
                    assert_eq!(world.ask(DRAIN).await, Ok(Phase::Waiting));
                    assert_eq!(world.running.await.unwrap(), End::Stopped);
                    1
                }
                Err(refused) => {
                    assert_eq!(refused, Refused::Ending);
                    assert_eq!(world.running.await.unwrap(), End::Stopped);
                    0
                }
            }
        })
        .await;
    }
    assert!((1..30).contains(&taken_back), "both happen: {taken_back}");
}

/// Once the last client has gone nothing is turned back, though a request is still answered.
#[tokio::test(start_paused = true)]
async fn a_process_that_has_begun_to_end_refuses_commands() {
    beside(async |world| {
        let (last, request) = (world.client(), world.control.barrier.request());
        world.ask(DRAIN).await.unwrap();
        drop(last);
        yield_now().await;
        for command in [UNDRAIN, FORCED, limit(100)] {
            assert_eq!(world.control.ask(command).await, Err(Refused::Ending));
        }
        assert!(!world.running.is_finished(), "the request has its moment");
        drop(request);
        assert_eq!(world.running.await.unwrap(), End::Stopped);
    })
    .await;
}

/// A limit that is prolonged in time counts no longer, and one that has passed stays.
#[tokio::test(start_paused = true)]
async fn a_limit_is_prolonged_in_time_or_not_at_all() {
    beside(async |world| {
        let _stays = world.client();
        assert_eq!(world.ask(limit(100)).await, Ok(Phase::Waiting));
        sleep(Duration::from_secs(99)).await;
        assert_eq!(world.control.phase(), Phase::Closing);
        assert_eq!(world.ask(limit(100)).await, Ok(Phase::Waiting), "closing is called off");
        sleep(Duration::from_millis(99_999)).await;
        assert!(!world.running.is_finished());
        sleep(Duration::from_millis(2)).await;
        assert_eq!(world.control.ask(limit(100)).await, Err(Refused::Ending));
        assert_eq!(world.running.await.unwrap(), End::Stopped);
    })
    .await;
}

/// Commands of several operators are done one after the other.
#[tokio::test(start_paused = true)]
async fn the_later_of_two_commands_counts() {
    beside(async |world| {
        let _stays = world.client();
        let ask = |command| world.control.ask(command);
        let (first, second, third, fourth, fifth) = tokio::join!(
            ask(limit(100)),
            ask(limit(200)),
            ask(UNDRAIN),
            ask(UNDRAIN),
            ask(limit(300)),
        );
        let seconds = |answer: Result<Outcome, Refused>| {
            let answer = answer.unwrap();
            let drain = answer.drain.unwrap();
            (answer.has_begun, (drain.deadline - drain.started).as_secs())
        };
        assert_eq!((seconds(first), seconds(second)), ((true, 100), (false, 200)));
        let Outcome { drain, has_begun, .. } = third.unwrap();
        assert_eq!((drain, has_begun), (None, false));
        assert_eq!(fourth, Err(Refused::Serving));
        assert_eq!(seconds(fifth), (true, 300));
    })
    .await;
}

/// A signal that was taken back by force is forgotten: the next one begins anew as the first.
#[tokio::test(start_paused = true)]
async fn a_signal_after_an_undrain_is_a_first_one() {
    beside(async |world| {
        let stays = world.client();
        assert_eq!(world.ask(UNDRAIN).await, Err(Refused::Serving));
        world.signal().await;
        assert_eq!(world.control.phase(), Phase::Waiting);
        assert_eq!(world.ask(UNDRAIN).await, Err(Refused::Signalled));
        assert_eq!(world.ask(FORCED).await, Ok(Phase::Serving));
        for phase in [Phase::Waiting, Phase::Stopped] {
            world.signal().await;
            assert_eq!(world.control.phase(), phase);
        }
        assert_eq!(world.running.await.unwrap(), End::Stopped);
        drop(stays);
    })
    .await;
}

/// A drain that an operator began is a supervisor's once a signal has come.
#[tokio::test(start_paused = true)]
async fn a_signal_makes_an_operators_drain_its_own() {
    beside(async |world| {
        let _stays = world.client();
        world.ask(DRAIN).await.unwrap();
        world.signal().await;
        assert_eq!(world.ask(UNDRAIN).await, Err(Refused::Signalled));
        assert_eq!(world.ask(FORCED).await, Ok(Phase::Serving));
        world.ask(DRAIN).await.unwrap();
        assert_eq!(world.ask(UNDRAIN).await, Ok(Phase::Serving), "it is forgotten");
    })
    .await;
}

/// A process that a shard has died of serves no more.
#[tokio::test(start_paused = true)]
async fn a_process_with_a_dead_shard_serves_no_more() {
    beside(async |world| {
        let _stays = world.client();
        world.ask(DRAIN).await.unwrap();
        world.deaths.send(Death { shard: 0, cause: "a test".to_owned() }).await.unwrap();
        yield_now().await;
        assert_eq!(world.ask(FORCED).await, Err(Refused::Failed));
        assert_eq!(world.running.await.unwrap(), End::ShardDied);
    })
    .await;
}

/// Clients that a drain cut off are no concern of the next one, and nobody is woken meanwhile.
#[tokio::test(start_paused = true)]
async fn an_undrain_leaves_nothing_of_the_drain_behind() {
    beside(async |world| {
        let stays = world.client();
        world.ask(limit(1)).await.unwrap();
        world.control.barrier.count_cut_off();
        assert_eq!(world.ask(UNDRAIN).await, Ok(Phase::Serving));
        assert_eq!(world.control.barrier.cut_off(), 0);
        assert_eq!(world.control.remaining(Millis(0)), None);
        drop(stays);
        let comes = world.client();
        sleep(Duration::from_secs(100)).await;
        assert_eq!(world.control.phase(), Phase::Serving);
        world.ask(DRAIN).await.unwrap();
        drop(comes);
        assert_eq!(world.running.await.unwrap(), End::Stopped);
    })
    .await;
}

/// A shard that hangs holds the drain until its deadline and until the others' clients have left,
/// whichever comes later, and not until the limit.
#[tokio::test(start_paused = true)]
async fn clients_of_a_hanging_shard_are_not_waited_for() {
    for others_leave_after in [0, 5, 29, 31, 300] {
        beside(async |world| {
            let (_hangs, leaves) = (world.client(), world.client());
            world.shards[1].connections.set(1);
            world.shards[2].connections.set(1);
            world.hanging.set(Some(1));
            world.ask(DRAIN).await.unwrap();
            let begun = world.clock.now();
            sleep(Duration::from_secs(others_leave_after)).await;
            assert!(!world.running.is_finished(), "{others_leave_after}");
            world.shards[2].connections.set(0);
            drop(leaves);
            assert_eq!(world.running.await.unwrap(), End::ShardsHung);
            let took = (world.clock.now() - begun).as_secs();
            let expected = others_leave_after.max(SHARD_STALL_LIVE.as_secs());
            assert!((expected..=expected + 3).contains(&took), "{took} of {expected}");
            assert_eq!(world.control.phase(), Phase::Stopped);
        })
        .await;
    }
}

/// A shard that beats again in time holds the drain as any other, and one whose silence nobody has
/// watched is not taken for one that hangs.
#[tokio::test(start_paused = true)]
async fn a_shard_that_beats_again_holds_the_drain() {
    beside(async |world| {
        let _stays = world.client();
        world.shards[1].connections.set(1);
        world.ask(DRAIN).await.unwrap();
        for _ in 0..10 {
            world.hanging.set(Some(1));
            sleep(Duration::from_secs(28)).await;
            world.hanging.set(None);
            sleep(Duration::from_secs(1)).await;
        }
        // The process is stopped for a while: no shard beats, and nobody looks.
        world.hanging.set(Some(1));
        sleep(Duration::from_secs(3)).await;
        tokio::time::advance(Duration::from_secs(300)).await;
        sleep(Duration::from_secs(20)).await;
        assert!(!world.running.is_finished());
        assert_eq!(world.ask(UNDRAIN).await, Ok(Phase::Serving));
        sleep(Duration::from_secs(100)).await;
        assert!(!world.running.is_finished(), "it serves");
    })
    .await;
}

/// A request of a hanging shard gets its moment, as if the last client had left, and no more.
#[tokio::test(start_paused = true)]
async fn a_hanging_shards_request_gets_its_moment() {
    beside(async |world| {
        let (_stays, _request) = (world.client(), world.control.barrier.request());
        world.shards[0].connections.set(1);
        world.hanging.set(Some(0));
        world.ask(DRAIN).await.unwrap();
        let begun = world.clock.now();
        assert_eq!(world.running.await.unwrap(), End::ShardsHung);
        let took = (world.clock.now() - begun).as_secs();
        assert!((30..=33).contains(&took), "{took}");
    })
    .await;
}

/// The rate at which clients leave is that of the drain alone, of all shards.
#[tokio::test(start_paused = true)]
async fn the_rate_of_departures_is_the_drains() {
    beside(async |world| {
        let _stays = world.client();
        let leave = |shard: usize, clients| world.shards[shard].connections_closed.add(0, clients);
        leave(0, 1_000);
        let rate = || world.control.departures.per_second(world.clock.now());
        assert_eq!(rate(), None);
        world.ask(DRAIN).await.unwrap();
        for _ in 0..100 {
            leave(1, 1);
            leave(2, 4);
            sleep(Duration::from_secs(1)).await;
        }
        let now = rate().unwrap();
        assert!((4.8..=5.2).contains(&now), "{now}");
        world.ask(UNDRAIN).await.unwrap();
        assert_eq!(rate(), None);
    })
    .await;
}
