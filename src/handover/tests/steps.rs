//! Each step of a hand-over, done well, done badly, and never done.

use std::time::Duration;

use super::{
    sides::{DESCRIPTORS, New, Old, Whim, WhimKind, serve},
    *,
};
use crate::limits::HANDOVER_PAUSE_MAX;

/// The end of a hand-over without faults from outside.
struct Ending {
    old: Old,
    given: Result<Given, Failure>,
    taken: Result<Vec<Parcel<OwnedFd>>, Failure>,
    far: Vec<UnixStream>,
    started: u32,
}

async fn hand_over(old: Whim, new: Whim) -> Ending {
    let (one, other) = Link::pair().unwrap();
    let (mut old, far) = Old::new("wsbcast-steps", old);
    let (new, started) = New::with(new);
    let taking = take_over(other, Identity::own("1.0.1"), new);
    let (given, taken) = tokio::join!(serve(one, &mut old), taking);
    Ending { old, given, taken, far, started: started.get() }
}

#[tokio::test(start_paused = true)]
async fn all_is_handed_over_once() {
    let Ending { old, given, taken, far, started } =
        hand_over(Whim::default(), Whim::default()).await;
    let given = given.unwrap();
    assert_eq!(given.new.version, "1.0.1");
    assert_eq!((old.state.committed.get(), old.state.resumed.get(), started), (1, 0, 1));
    let taken = taken.unwrap();
    let kinds: Vec<_> = taken.iter().map(|parcel| (parcel.kind, parcel.shard)).collect();
    let clients = (PartKind::Clients, Some(0));
    let broker = (PartKind::Broker, None);
    let shard = (PartKind::Shard, Some(0));
    let process = (PartKind::Process, None);
    assert_eq!(kinds, [process, broker, broker, broker, shard, clients, clients, clients]);
    let steps = old.state.steps.borrow().clone();
    assert!(steps.is_sorted() && steps.first() == Some(&Step::Building), "{steps:?}");
    assert_eq!(steps.last(), Some(&Step::Commit));
    drop(old);
    assert!(!far.iter().any(is_closed), "the new process has them all");
    let mut contents = Vec::new();
    let mut descriptors = Vec::new();
    for parcel in taken {
        contents.push(parcel.content.into_bytes().unwrap());
        descriptors.extend(parcel.descriptors);
    }
    assert_eq!(contents[..5], [&b"listeners"[..], b"history", b"keys", b"journal", b"logs"]);
    let lengths: Vec<_> = contents[5..].iter().map(Vec::len).collect();
    assert_eq!(lengths, [100, 70_000, 100], "whatever a message can carry");
    assert_eq!(descriptors.len(), DESCRIPTORS);
    drop(descriptors);
    assert!(far.iter().all(is_closed));
}

/// Every call of either side fails, hangs, or takes its time: with the same end.
#[tokio::test(start_paused = true)]
async fn a_step_that_fails_or_hangs_ends_in_the_old_process() {
    let calls = hand_over(Whim::default(), Whim::default()).await.old.calls_made();
    assert!(calls > 8, "{calls}");
    for is_old in [true, false] {
        for call in 0..calls {
            for kind in [WhimKind::Fails, WhimKind::Hangs] {
                let whim = Whim { call, kind };
                let none = Whim::default();
                let (old, new) = if is_old { (whim, none) } else { (none, whim) };
                let context = format!("{whim:?} of the old process: {is_old}");
                let Ending { old, given, taken, far, started } = hand_over(old, new).await;
                if !is_old && taken.is_ok() {
                    assert!(call >= 10, "{context}: past its last call");
                    continue;
                }
                let state = old.state.clone();
                let told = (state.committed.get(), state.resumed.get(), started);
                assert_eq!(told, (0, 1, 0), "{context}");
                let given = given.unwrap_err().to_string();
                assert_eq!(*state.failure.borrow(), given, "{context}");
                let taken = taken.unwrap_err().to_string();
                if kind == WhimKind::Fails {
                    let reason = format!("call {call} fails");
                    assert!(given.contains(&reason) && taken.contains(&reason), "{given}, {taken}");
                }
                assert!(state.stood_still.get() <= HANDOVER_PAUSE_MAX, "{context}");
                drop(old);
                assert!(far.iter().all(is_closed), "{context}");
            }
        }
    }
    assert_eq!(sheets_held("wsbcast-steps"), 0);
}

/// Parts that take long each, but not too long, are too long together.
#[tokio::test(start_paused = true)]
async fn a_pause_has_a_bound_in_all() {
    let (one, other) = Link::pair().unwrap();
    let (mut old, _far) = Old::new("wsbcast-pause", Whim::default());
    struct Slow(New);
    impl Taker for Slow {
        type Started = ();
        async fn build(&mut self, old: &Identity, it: Parcel<OwnedFd>) -> Result<(), String> {
            self.0.build(old, it).await
        }
        async fn take_ahead(&mut self, piece: Parcel<OwnedFd>) -> Result<(), String> {
            self.0.take_ahead(piece).await
        }
        async fn ready(&mut self) -> Result<(), String> {
            self.0.ready().await
        }
        async fn restore(&mut self, part: Parcel<OwnedFd>) -> Result<(), String> {
            tokio::time::sleep(Duration::from_millis(700)).await;
            self.0.restore(part).await
        }
        async fn prepare(&mut self) -> Result<(), String> {
            self.0.prepare().await
        }
        fn start(self, _: Link) {}
    }
    let (new, _) = New::with(Whim::default());
    let taking = take_over(other, Identity::own("1.0.1"), Slow(new));
    let (given, taken) = tokio::join!(serve(one, &mut old), taking);
    given.unwrap_err();
    taken.unwrap_err();
    assert_eq!(old.state.resumed.get(), 1);
    let stood_still = old.state.stood_still.get();
    assert!(stood_still <= HANDOVER_PAUSE_MAX, "{stood_still:?}");
    assert!(stood_still > HANDOVER_PAUSE_MAX - Duration::from_millis(10), "{stood_still:?}");
}

/// The old process goes on when a hand-over is given up from outside.
#[tokio::test(start_paused = true)]
async fn a_hand_over_that_is_dropped_is_resumed() {
    let (one, _other) = Link::pair().unwrap();
    let (mut old, _far) = Old::new("wsbcast-dropped", Whim::default());
    let state = old.state.clone();
    let hello =
        messages::Hello { identity: Identity::own("1.0.1"), purpose: messages::Purpose::TakeOver };
    _other.send_now(&crate::record::to_bytes(&messages::Message::Hello(hello))).unwrap();
    let giving = serve(one, &mut old);
    tokio::time::timeout(Duration::from_millis(1), giving).await.unwrap_err();
    assert_eq!((state.resumed.get(), state.committed.get()), (1, 0));
    assert_eq!(*state.failure.borrow(), "it was given up");
}
