//! Both sides killed, stopped and delayed anywhere, and every message damaged, by seed.
//!
//! In any case one process serves afterwards, or none only because the one that had to was
//! killed; nothing stands still for too long; no descriptor and no sheet is left behind.

use std::{
    cell::Cell,
    future::Future,
    os::fd::AsFd,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use tokio::time::Sleep;

use super::{
    sides::{DESCRIPTORS, New, Old, Whim, WhimKind, serve},
    *,
};
use crate::{
    handover::messages::Message, limits::HANDOVER_PAUSE_MAX, record::to_bytes, seeds::run_all,
};

/// An event that hits a process from outside, at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Blow {
    None,
    /// SIGKILL.
    Kill,
    /// SIGSTOP, and SIGCONT after this long.
    Stop(Duration),
}

/// A process to which something may happen after it has run for so many turns.
struct Mortal<F, D> {
    process: Option<Pin<Box<F>>>,
    blow: Blow,
    turns_left: u32,
    stop: Option<Pin<Box<Sleep>>>,
    /// Called before a killed process is dropped.
    at_death: D,
}

impl<F: Future, D: Fn()> Mortal<F, D> {
    fn new(process: F, (blow, turns_left): (Blow, u32), at_death: D) -> Self {
        Self { process: Some(Box::pin(process)), blow, turns_left, stop: None, at_death }
    }
}

impl<F: Future, D: Fn() + Unpin> Future for Mortal<F, D> {
    /// None if it was killed.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.turns_left == 0 && this.blow != Blow::None {
            match this.blow {
                Blow::Stop(time) => {
                    let sleep = || Box::pin(tokio::time::sleep(time));
                    let stop = this.stop.get_or_insert_with(sleep);
                    if stop.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                }
                _ => {
                    (this.at_death)();
                    this.process = None;
                    return Poll::Ready(None);
                }
            }
            this.blow = Blow::None;
        }
        this.turns_left = this.turns_left.saturating_sub(1);
        let process = this.process.as_mut().expect("polled until it is ready");
        match process.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(output) => {
                this.process = None;
                Poll::Ready(Some(output))
            }
        }
    }
}

/// Damage to one message on its way, which no kernel does: a process with a fault.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Damage {
    Byte,
    CutOff,
    Longer,
    Noise,
    Twice,
    Lost,
    WithoutDescriptors,
    WithOneMore,
    Late(Duration),
    End,
}

const DAMAGES: [Damage; 10] = [
    Damage::Byte,
    Damage::CutOff,
    Damage::Longer,
    Damage::Noise,
    Damage::Twice,
    Damage::Lost,
    Damage::WithoutDescriptors,
    Damage::WithOneMore,
    Damage::Late(Duration::from_millis(300)),
    Damage::End,
];

/// A damage, and the message that it happens to.
#[derive(Clone, Copy, Debug)]
struct Accident {
    damage: Damage,
    /// Of both ways together.
    message: u32,
}

/// Passes messages on, one of which it damages, but never COMMIT: what the system has taken, it
/// delivers. Ends with either side.
async fn pass_on(mut ends: [Link; 2], accident: Accident, rng: &mut Rng) {
    let soon = Duration::from_secs(60);
    let commit = to_bytes(&Message::Commit);
    for n in 0.. {
        let from = tokio::select! {
            () = ends[0].disturbed() => 0,
            () = ends[1].disturbed() => 1,
        };
        let Ok(Packet { mut bytes, mut descriptors }) = ends[from].receive_now() else { return };
        let mut copies = 1;
        if n == accident.message && bytes != commit {
            match accident.damage {
                Damage::Byte => {
                    let at = rng.usize(..bytes.len());
                    bytes[at] ^= rng.u8(1..);
                }
                Damage::CutOff => bytes.truncate(rng.usize(1..=bytes.len())),
                Damage::Longer => bytes.resize(bytes.len() + rng.usize(1..50), rng.u8(..)),
                Damage::Noise => bytes.fill_with(|| rng.u8(..)),
                Damage::Twice => copies = 2,
                Damage::Lost => copies = 0,
                Damage::WithoutDescriptors => descriptors.clear(),
                Damage::WithOneMore => descriptors.push(traced().0),
                Damage::Late(time) => tokio::time::sleep(time).await,
                Damage::End => return,
            }
        }
        let lent: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        for _ in 0..copies {
            if ends[1 - from].send(&bytes, &lent, soon).await.is_err() {
                return;
            }
        }
    }
}

/// All that a seed decides.
#[derive(Clone, Copy, Debug)]
struct Plan {
    old: (Blow, u32),
    new: (Blow, u32),
    old_whim: Whim,
    new_whim: Whim,
    accident: Option<Accident>,
}

/// Longer than any wait of the other process, but for the building.
const LONG: Duration = Duration::from_secs(20);
/// More than a process has turns, messages and calls, so that now and then nothing happens.
const TURNS: u32 = 70;
const MESSAGES: u32 = 16;
const CALLS: u32 = 12;

impl Plan {
    fn of(rng: &mut Rng) -> Self {
        let blow = |rng: &mut Rng| {
            let blow = match rng.u8(..3) {
                0 => Blow::Kill,
                1 => Blow::Stop(Duration::from_millis(rng.u64(1..400))),
                _ => Blow::Stop(Duration::from_millis(rng.u64(400..20_000))),
            };
            (blow, rng.u32(..TURNS))
        };
        let whim = |rng: &mut Rng| {
            let kind = match rng.u8(..8) {
                0 => WhimKind::Fails,
                1 => WhimKind::Hangs,
                2 => WhimKind::Takes(Duration::from_millis(rng.u64(1..3000))),
                _ => WhimKind::None,
            };
            Whim { call: rng.u32(..CALLS), kind }
        };
        let none = (Blow::None, 0);
        let (old, new, accident) = match rng.u8(..6) {
            0 | 1 => (blow(rng), none, None),
            2 | 3 => (none, blow(rng), None),
            4 => (blow(rng), blow(rng), None),
            _ => {
                let damage = *rng.choice(&DAMAGES).unwrap();
                (none, none, Some(Accident { damage, message: rng.u32(..MESSAGES) }))
            }
        };
        Self { old, new, old_whim: whim(rng), new_whim: whim(rng), accident }
    }
}

/// Whether each ending has occurred: handed over; gone on; the old one crashed, and nobody has
/// taken over; the new one crashed after COMMIT.
type Endings = [u64; 4];

fn run(plan: Plan, rng: &mut Rng) -> Endings {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    let everything = hand_over(plan, rng);
    let bounded = async { tokio::time::timeout(Duration::from_secs(600), everything).await };
    runtime.block_on(bounded).unwrap_or_else(|_| panic!("it hangs: {plan:?}"))
}

const SHEETS: &str = "wsbcast-sim";

async fn hand_over(plan: Plan, rng: &mut Rng) -> Endings {
    let (mut old, far) = Old::new(SHEETS, plan.old_whim);
    let (new, started) = New::with(plan.new_whim);
    let state = old.state.clone();
    let new_is_dead = Cell::new(false);
    let (one, near) = Link::pair().unwrap();
    let (other, between) = match plan.accident {
        None => (near, None),
        Some(accident) => {
            let (other, there) = Link::pair().unwrap();
            (other, Some(pass_on([near, there], accident, rng)))
        }
    };
    let giving = Mortal::new(serve(one, &mut old), plan.old, || state.is_dead.set(true));
    let taking = take_over(other, Identity::own("1.0.1"), new);
    let taking = Mortal::new(taking, plan.new, || new_is_dead.set(true));
    let passing = async {
        if let Some(between) = between {
            between.await;
        }
    };
    let (given, taken, ()) = tokio::join!(giving, taking, passing);
    drop(given);

    let (committed, resumed) = (state.committed.get(), state.resumed.get());
    let (old_is_dead, new_is_dead, started) =
        (state.is_dead.get(), new_is_dead.get(), started.get());
    let context = format!(
        "{plan:?}: committed {committed}, resumed {resumed}, dead {old_is_dead}, started \
         {started}, dead {new_is_dead}"
    );
    assert!(committed + resumed <= 1 && started <= 1, "{context}");
    assert!(old_is_dead || committed + resumed == 1, "the old one decides: {context}");
    assert!(started <= committed, "none starts without COMMIT: {context}");
    assert!(new_is_dead || started == committed, "COMMIT is not lost: {context}");
    let stopped = match plan.old.0 {
        Blow::Stop(time) => time,
        _ => Duration::ZERO,
    };
    let stood_still = state.stood_still.get();
    assert!(stood_still <= HANDOVER_PAUSE_MAX + stopped, "{stood_still:?}: {context}");
    drop(old);
    match taken {
        Some(Ok(taken)) => {
            assert_eq!(started, 1, "{context}");
            let came: Vec<_> = taken.into_iter().flat_map(|parcel| parcel.descriptors).collect();
            assert_eq!(came.len(), DESCRIPTORS, "{context}");
            assert!(!far.iter().any(is_closed), "{context}");
        }
        _ => assert_eq!(started, 0, "{context}"),
    }
    assert!(far.iter().all(is_closed), "descriptors are left: {context}");
    let gone_on = resumed == 1 && !old_is_dead;
    let endings = [started == 1, gone_on, old_is_dead && started == 0, committed > started];
    endings.map(u64::from)
}

/// One blow at every turn of either process, with nothing else.
#[test]
fn every_turn_of_a_process_may_be_its_last() {
    let mut endings = [0; 4];
    let blows = [Blow::Kill, Blow::Stop(Duration::from_millis(100)), Blow::Stop(LONG)];
    for (blow, turn) in blows.iter().flat_map(|blow| (0..TURNS).map(move |turn| (*blow, turn))) {
        let (none, whim) = ((Blow::None, 0), Whim::default());
        for (old, new) in [((blow, turn), none), (none, (blow, turn))] {
            let plan = Plan { old, new, old_whim: whim, new_whim: whim, accident: None };
            let occurred = run(plan, &mut Rng::with_seed(0));
            endings.iter_mut().zip(occurred).for_each(|(all, one)| *all += one);
        }
    }
    assert!(endings.iter().all(|count| *count > 0), "not all endings occur: {endings:?}");
}

#[test]
fn at_most_one_process_serves_and_nothing_is_lost() {
    let endings = run_all(3_000, |seed| {
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::of(&mut rng);
        run(plan, &mut rng)
    });
    let Some(endings) = endings else { return };
    assert_eq!(sheets_held(SHEETS), 0, "sheets are left");
    assert!(endings[..3].iter().all(|count| *count > 10), "not all endings occur: {endings:?}");
}
