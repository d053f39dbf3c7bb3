//! The edges of a hand-over: COMMIT against the end, and a side that is played by hand.

use std::{
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::sync_channel,
    },
    thread,
    time::Duration,
};

use super::{
    super::{
        line::Line,
        messages::{Hello, Manifest, Message, Purpose},
        taker::give_up,
    },
    sides::{New, Old, Whim, WhimKind, serve},
    *,
};
use crate::{clock::Clock, record::to_bytes};

const SOON: Duration = Duration::from_secs(60);

/// A new process by hand, until it has said that it is ready, or prepared.
async fn new_process(line: &mut Line, end: Message) {
    let identity = Identity::own("1.0.1");
    let hello = Hello { identity, purpose: Purpose::TakeOver };
    line.say(&Message::Hello(hello), SOON).await.unwrap();
    loop {
        let (message, came) = line.hear(SOON).await.unwrap();
        let answer = match message {
            Message::Manifest(Manifest { enclosed, .. }) => {
                line.unpacked(enclosed, came).unwrap();
                Message::Built
            }
            Message::Ahead(said) | Message::Part(said) => {
                line.unpacked(said, came).unwrap();
                line.acknowledge().await.unwrap();
                continue;
            }
            Message::AheadEnd => Message::Ready,
            Message::Pausing => continue,
            Message::PartsEnd => Message::Prepared,
            message => panic!("{message:?}"),
        };
        line.say(&answer, SOON).await.unwrap();
        if answer == end {
            return;
        }
    }
}

/// The old process writes COMMIT at the moment at which the new one gives up, in another thread:
/// in either order both agree. Tried often, or for a while.
#[test]
fn both_sides_agree_whether_commit_was_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let clock = Clock::start();
    let end = clock.now() + Duration::from_secs(3);
    let mut rounds = 0;
    let (to_giver, links) = sync_channel::<Link>(0);
    let (to_taker, written) = sync_channel(1);
    let (waiting, begun) = (AtomicU32::new(0), AtomicU32::new(0));
    let reach = |counter: &AtomicU32, round| {
        while counter.load(Ordering::Acquire) != round {
            thread::yield_now();
        }
    };
    let mut commits = 0;
    thread::scope(|scope| {
        scope.spawn(|| {
            let commit = to_bytes(&Message::Commit);
            for (round, link) in (1..).zip(links) {
                waiting.store(round, Ordering::Release);
                reach(&begun, round);
                let was_written = link.send_now(&commit).is_ok();
                to_taker.send((was_written, link)).unwrap();
            }
        });
        let mut rng = fastrand::Rng::with_seed(1);
        for round in (1..=2_000).take_while(|round| *round <= 50 || clock.now() < end) {
            let (one, other) = Link::pair().unwrap();
            let mut line = Line::new(other);
            to_giver.send(one).unwrap();
            reach(&waiting, round);
            begun.store(round, Ordering::Release);
            match rng.u32(..4) {
                0 => thread::yield_now(),
                _ => (0..rng.u32(..1_000)).for_each(|_| std::hint::spin_loop()),
            }
            let starts = give_up(&mut line).is_ok();
            let (was_written, _link) = written.recv().unwrap();
            assert_eq!(starts, was_written, "COMMIT was written: {was_written}");
            commits += u32::from(was_written);
            rounds = round;
        }
        drop(to_giver);
    });
    eprintln!("COMMIT came first in {commits} of {rounds} rounds");
    assert!(commits > 0 && commits < rounds, "always the same came first: {commits}");
}

#[tokio::test]
async fn a_process_that_gives_up_looks_for_commit_last() {
    for was_written in [true, false] {
        let (one, other) = Link::pair().unwrap();
        let mut line = Line::new(other);
        let commit = to_bytes(&Message::Commit);
        if was_written {
            one.send_now(&commit).unwrap();
        }
        assert_eq!(give_up(&mut line).is_ok(), was_written);
        assert!(matches!(one.send_now(&commit), Err(LinkError::Closed)), "it is too late");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_that_cannot_be_written_is_none() {
    let (one, other) = Link::pair().unwrap();
    let (mut old, far) = Old::new("wsbcast-edges", Whim::default());
    let mut line = Line::new(other);
    let playing = async {
        new_process(&mut line, Message::Prepared).await;
        line.link.close_for_peer().unwrap();
    };
    let (given, ()) = tokio::join!(serve(one, &mut old), playing);
    let failure = given.unwrap_err();
    let at_commit =
        matches!(failure, Failure::Link { step: Step::Commit, error: LinkError::Closed });
    assert!(at_commit, "{failure}");
    assert_eq!((old.state.committed.get(), old.state.resumed.get()), (0, 1));
    assert!(!far.iter().any(is_closed), "it has its clients");
}

/// The old process does not stand still for somebody who is gone.
#[tokio::test(start_paused = true)]
async fn a_new_process_that_dies_in_the_pause_ends_it() {
    let (one, other) = Link::pair().unwrap();
    // The pause is its fifth call, after the manifest, two pieces, and their end.
    let whim = Whim { call: 4, kind: WhimKind::Takes(Duration::from_secs(1)) };
    let (mut old, _far) = Old::new("wsbcast-edges", whim);
    let playing = async {
        let mut line = Line::new(other);
        new_process(&mut line, Message::Ready).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let (given, ()) = tokio::join!(serve(one, &mut old), playing);
    let failure = given.unwrap_err();
    assert!(matches!(failure, Failure::Link { step: Step::Pausing, .. }), "{failure}");
    let stood_still = old.state.stood_still.get();
    let expected = Duration::from_millis(50)..Duration::from_millis(100);
    assert!(expected.contains(&stood_still), "{stood_still:?}");
}

#[tokio::test(start_paused = true)]
async fn a_parcel_out_of_turn_is_not_taken() {
    let (one, other) = Link::pair().unwrap();
    let (new, started) = New::with(Whim::default());
    let mut line = Line::new(one);
    let parcel = || Parcel::<OwnedFd>::new(PartKind::Broker, Content::Bytes(Vec::new()));
    let playing = async {
        line.hear(SOON).await.unwrap();
        let identity = Identity::own("1.0.0");
        let wrap = |enclosed| Message::Manifest(Manifest { identity, enclosed });
        line.send_parcel(&parcel(), wrap, SOON).await.unwrap();
        line.hear_word(&Message::Built, SOON).await.unwrap();
        // The number of the manifest again.
        let wrap = |mut said: messages::Enclosed| {
            said.number = 1;
            Message::Ahead(said)
        };
        line.send_parcel(&parcel(), wrap, SOON).await.unwrap();
        line.hear_ack(SOON).await.unwrap_err()
    };
    let (taken, answer) = tokio::join!(take_over(other, Identity::own("1.0.1"), new), playing);
    let failure = taken.unwrap_err();
    let is_named = matches!(
        failure,
        Failure::BadMessage { step: Step::Ahead, error: BadMessage::WrongNumber }
    );
    assert!(is_named, "{failure}");
    assert!(answer.to_string().contains("out of turn"), "{answer}");
    assert_eq!(started.get(), 0);
}
