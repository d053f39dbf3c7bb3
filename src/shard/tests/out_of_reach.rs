//! Clients that resume while their channel's position cannot be learned, on a paused clock.

use std::{rc::Rc, sync::Arc};

use futures_util::future::FutureExt as _;
use tokio::task::spawn_local;

use super::{core, embedded, sometimes::Sometimes};
use crate::{
    broker::{self, Message, Position, Since},
    channel::ChannelName,
    clock::Clock,
    conn::SubscribeRequest,
    drain::Control,
    http::{Admission, NotAdmitted},
    hub::Encoding,
    limits::{RESUME_RETRY, RESUME_WAIT},
    shard::admit,
    ws::Kind,
};

/// One client asks for admission while the broker is out of reach, for up to 500 ms if it
/// `returns`. Returns the answer, and how long it took.
fn admitted(since: Option<Since>, returns: bool) -> (Admission, std::time::Duration) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let clock = Clock::start();
        let broker = embedded(clock).await;
        let channel = ChannelName::new("a").unwrap();
        for text in ["1", "2", "3"] {
            let message = Message {
                publisher: broker::Principal::Api,
                channel: channel.clone(),
                kind: Kind::Text,
                data: text.into(),
                key: None,
            };
            broker.publish(message).await.unwrap();
        }
        let sometimes = Rc::new(Sometimes::new(broker));
        let control = Arc::new(Control::default());
        let (_poller, core) = core(clock, sometimes.clone(), &control);
        let since = since.map(|since| match since {
            Since::After(Position { offset, .. }) => {
                let now = sometimes.broker.position(channel.clone(), None).now_or_never();
                Since::After(Position { epoch: now.flatten().unwrap().epoch, offset })
            }
            newest @ Since::Newest(_) => newest,
        });
        let began = Clock::start().instant();
        if returns {
            let sometimes = sometimes.clone();
            spawn_local(async move {
                time_passes(RESUME_WAIT / 2).await;
                sometimes.is_reached.set(true);
            });
        }
        let entry =
            admit::admission(&core)(vec![SubscribeRequest { channel, since }], Encoding::V1).await;
        let admission = entry.unwrap_or_else(|error: NotAdmitted| panic!("{error:?}"));
        (admission, began.elapsed())
    })
}

/// On the paused clock, which advances by itself when there is nothing else to do.
async fn time_passes(duration: std::time::Duration) {
    tokio::time::sleep(duration).await;
}

fn after(offset: u64) -> Option<Since> {
    Some(Since::After(Position { epoch: "".into(), offset }))
}

/// A client that resumes waits for a broker that comes back soon.
#[test]
fn resuming_waits_for_a_broker_that_returns() {
    let (admission, took) = admitted(after(1), true);
    let [(_, at)] = &admission.positions[..] else { panic!("its position is known") };
    assert_eq!(at.offset, 1, "what it missed follows");
    assert!(took <= RESUME_WAIT / 2 + RESUME_RETRY, "{took:?}");
}

/// A client that resumes does not wait for a broker that stays away.
#[test]
fn resuming_does_not_wait_for_a_lost_broker() {
    let (admission, took) = admitted(after(1), false);
    assert!(admission.positions.is_empty(), "nobody knows where it is");
    assert!((RESUME_WAIT..RESUME_WAIT * 2).contains(&took), "{took:?}");
}

#[test]
fn clients_that_want_only_new_messages_do_not_wait() {
    let (admission, took) = admitted(None, true);
    assert!(admission.positions.is_empty() && took.is_zero(), "{took:?}");
}
