//! Greetings, refusals, other versions, and askers.

use std::time::Duration;

use super::{
    sides::{New, Old, Whim, serve},
    *,
};
use crate::{
    handover::messages::{Hello, Message, Purpose, Reason},
    limits::{HANDOVER_GREETING_DEADLINE, HANDOVER_REASON_BYTES_MAX},
    record::{from_bytes, to_bytes},
};

const SOON: Duration = Duration::from_secs(5);

fn hello(purpose: Purpose, major: u32) -> Vec<u8> {
    let identity = Identity { major, ..Identity::own("9.9.9") };
    to_bytes(&Message::Hello(Hello { identity, purpose }))
}

/// The old process' view of a first message, and its answer.
async fn greeted(bytes: &[u8]) -> (Result<Visitor, Failure>, Option<Message>) {
    let (one, mut other) = Link::pair().unwrap();
    other.send_now(bytes).unwrap();
    let visitor = receive(one, Identity::own("1.0.0")).await;
    let answer = other.receive_now().ok().map(|packet| from_bytes(&packet.bytes).unwrap());
    (visitor, answer)
}

#[tokio::test]
async fn visitors_say_what_they_want() {
    let (visitor, answer) = greeted(&hello(Purpose::TakeOver, PROTOCOL_MAJOR)).await;
    let Ok(Visitor::NewProcess(new)) = visitor else { panic!("{visitor:?}") };
    assert_eq!((new.identity().version.as_str(), answer), ("9.9.9", None));
    let (visitor, _) = greeted(&hello(Purpose::AskUpgrade, PROTOCOL_MAJOR)).await;
    assert!(matches!(visitor, Ok(Visitor::Asker(_))), "{visitor:?}");
}

#[tokio::test]
async fn another_protocol_is_refused_with_both_versions() {
    let (visitor, answer) = greeted(&hello(Purpose::TakeOver, 7)).await;
    assert!(matches!(visitor, Err(Failure::Protocol(_))), "{visitor:?}");
    let Some(Message::Refused(refused)) = answer else { panic!("{answer:?}") };
    assert_eq!(refused.reason, RefusedFor::Protocol);
    for word in ["1.0.0", "protocol 1", "9.9.9", "protocol 7"] {
        assert!(refused.text.contains(word), "{}", refused.text);
    }
}

#[tokio::test]
async fn a_manifest_of_another_protocol_is_refused_too() {
    let (one, mut other) = Link::pair().unwrap();
    let (new, started) = New::with(Whim::default());
    let identity = Identity { major: 7, ..Identity::own("9.9.9") };
    let enclosed = messages::Enclosed {
        kind: PartKind::Process,
        shard: None,
        content: serde_bytes::ByteBuf::new(),
        is_sheet: false,
        descriptors: 0,
        number: 1,
    };
    let manifest = Message::Manifest(messages::Manifest { identity, enclosed });
    one.send_now(&to_bytes(&manifest)).unwrap();
    let error = take_over(other_end(&mut other), Identity::own("1.0.0"), new).await.unwrap_err();
    assert!(matches!(error, Failure::Protocol(_)), "{error}");
    assert_eq!(started.get(), 0);
}

/// The link itself, which a test has borrowed for its name.
fn other_end(link: &mut Link) -> Link {
    let (placeholder, _) = Link::pair().unwrap();
    std::mem::replace(link, placeholder)
}

#[tokio::test]
async fn a_later_versions_wish_is_refused() {
    #[derive(serde::Serialize)]
    enum Later {
        Hello(LaterHello),
    }
    #[derive(serde::Serialize)]
    struct LaterHello {
        identity: Identity,
        purpose: &'static str,
        urgency: u32,
    }
    let identity = Identity::own("9.9.9");
    let later = LaterHello { identity, purpose: "Duplicate", urgency: 3 };
    let (visitor, answer) = greeted(&to_bytes(&Later::Hello(later))).await;
    visitor.unwrap_err();
    assert!(matches!(answer, Some(Message::Refused(_))), "{answer:?}");
}

#[tokio::test]
async fn nonsense_is_told_so() {
    for bytes in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0], to_bytes(&Message::Commit)] {
        let (visitor, answer) = greeted(&bytes).await;
        visitor.unwrap_err();
        assert!(matches!(answer, Some(Message::Abort(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_visitor_who_says_nothing_does_not_stay() {
    let (one, mut other) = Link::pair().unwrap();
    let clock = crate::clock::Clock::start();
    let error = receive(one, Identity::own("1.0.0")).await.unwrap_err();
    assert!(matches!(error, Failure::Link { error: LinkError::TimedOut, .. }), "{error}");
    let waited = clock.now() - crate::clock::Millis::default();
    assert!(waited < HANDOVER_GREETING_DEADLINE + Duration::from_millis(10), "{waited:?}");
    other.receive_now().expect("it is told why");
    assert!(matches!(other.receive_now(), Err(LinkError::Closed)));
}

#[tokio::test]
async fn a_new_process_that_is_refused_does_not_start() {
    let (one, other) = Link::pair().unwrap();
    let (new, started) = New::with(Whim::default());
    let refusing = async {
        let Ok(Visitor::NewProcess(new)) = receive(one, Identity::own("1.0.0")).await else {
            panic!("a new process");
        };
        new.refuse(RefusedFor::Busy, "another upgrade is under way").await;
    };
    let (taken, ()) = tokio::join!(take_over(other, Identity::own("1.0.1"), new), refusing);
    let error = taken.unwrap_err();
    assert_eq!(error.to_string(), "the old process refuses: another upgrade is under way");
    assert!(matches!(error, Failure::Refused(refused) if refused.reason == RefusedFor::Busy));
    assert_eq!(started.get(), 0);
}

#[test]
fn only_one_has_the_turn() {
    let turns = Turns::default();
    let turn = turns.take().unwrap();
    assert!(turns.take().is_none());
    drop(turn);
    assert!(turns.take().is_some());
}

#[tokio::test]
async fn an_asker_learns_how_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control");
    let gone = ask_upgrade(&path, Identity::own("1.0.0"), |_| {}).await.unwrap_err();
    assert!(matches!(gone, AskError::NobodyThere), "{gone}");
    let control = ControlSocket::bind(&path).unwrap();
    let done = Done { pid: 4712, pause_ms: 80, clients: 3 };
    let long = "it was long ".repeat(100);
    let answering = async {
        for n in 0..3 {
            let link = control.accept().await.unwrap().unwrap();
            let Ok(Visitor::Asker(asker)) = receive(link, Identity::own("1.0.0")).await else {
                panic!("somebody who asks");
            };
            asker.progress(Step::Building);
            asker.progress(Step::Commit);
            match n {
                0 => asker.done(done.clone()).await,
                1 => asker.rolled_back(&long).await,
                _ => asker.refuse(RefusedFor::Unsupported, "it is process 1").await,
            }
        }
    };
    let asking = async {
        let mut seen = Vec::new();
        let own = || Identity::own("1.0.0");
        let first = ask_upgrade(&path, own(), |step| seen.push(step)).await.unwrap();
        assert_eq!(
            (first, seen),
            (Outcome::Done(done.clone()), vec![Step::Building, Step::Commit])
        );
        let second = ask_upgrade(&path, own(), |_| {}).await.unwrap();
        let Outcome::RolledBack(reason) = second else { panic!("{second:?}") };
        assert!(reason.starts_with("it was long") && reason.len() < long.len(), "{reason}");
        let third = ask_upgrade(&path, own(), |_| {}).await.unwrap_err();
        assert!(third.to_string().ends_with("it is process 1"), "{third}");
    };
    tokio::join!(answering, asking);
}

/// The pause must not wait for a terminal that was stopped.
#[tokio::test(start_paused = true)]
async fn an_asker_who_does_not_listen_holds_nobody_up() {
    let (one, other) = Link::pair().unwrap();
    other.send_now(&hello(Purpose::AskUpgrade, PROTOCOL_MAJOR)).unwrap();
    let Ok(Visitor::Asker(asker)) = receive(one, Identity::own("1.0.0")).await else {
        panic!("somebody who asks");
    };
    let clock = crate::clock::Clock::start();
    for _ in 0..10_000 {
        asker.progress(Step::Ahead);
    }
    assert_eq!(clock.now(), crate::clock::Millis::default());
    asker.rolled_back("it took too long").await;
    let waited = clock.now() - crate::clock::Millis::default();
    assert!(waited <= crate::limits::HANDOVER_FAREWELL_DEADLINE, "{waited:?}");
}

#[test]
fn reasons_are_cut_between_characters() {
    let reason = Reason::new("ä".repeat(HANDOVER_REASON_BYTES_MAX)).reason;
    assert!(reason.len() <= HANDOVER_REASON_BYTES_MAX + '…'.len_utf8() && reason.ends_with("ä…"));
    assert_eq!(Reason::new("short").reason, "short");
}

/// A new process gives up while COMMIT is on its way: it is found all the same.
#[tokio::test(start_paused = true)]
async fn commit_that_came_late_is_not_lost() {
    let (one, other) = Link::pair().unwrap();
    let (mut old, _far) = Old::new("wsbcast-late", Whim::default());
    let (new, started) = New::with(Whim::default());
    let mut taking = Box::pin(take_over(other, Identity::own("1.0.1"), new));
    let mut giving = Box::pin(serve(one, &mut old));
    // Both run until the old process has written COMMIT; then the new one stands still.
    let given = tokio::select! {
        biased;
        given = &mut giving => given,
        _ = &mut taking => panic!("not before COMMIT was written"),
    };
    given.unwrap();
    tokio::time::sleep(SOON * 10).await;
    taking.await.unwrap();
    assert_eq!(started.get(), 1);
}
