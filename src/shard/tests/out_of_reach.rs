//! Clients that resume while nobody can tell where their channel stands, on a paused clock.

use std::{cell::Cell, rc::Rc, sync::Arc};

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use tokio::{task::spawn_local, time::Instant};

use super::sim::clients;
use crate::{
    broker::{
        self, Broker, Message, Place, Position, Publication, PublishError, Receipt, Recovery,
        Since, Slot, SlotOutcome,
    },
    channel::ChannelName,
    conn::Wanted,
    drain::Control,
    http::{Admission, NotAdmitted},
    hub::Encoding,
    limits::{RESUME_RETRY, RESUME_WAIT},
    shard::{admit, core::Core, mailbox::Mailbox},
    ws::Kind,
};

/// An embedded broker that tells no position while it is out of reach.
struct Sometimes {
    broker: Rc<dyn Broker>,
    is_reached: Cell<bool>,
}

impl Broker for Sometimes {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        self.broker.publish(message)
    }

    fn publish_once(&self, slot: Slot) -> LocalBoxFuture<'_, SlotOutcome> {
        self.broker.publish_once(slot)
    }

    fn subscribe(&self, channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        self.broker.subscribe(channel)
    }

    fn position<'a>(
        &'a self,
        channel: ChannelName,
        since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        let position = self.broker.position(channel, since);
        async { if self.is_reached.get() { position.await } else { None } }.boxed_local()
    }

    fn recover(
        &self,
        channel: ChannelName,
        since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        self.broker.recover(channel, since, to)
    }

    fn history(
        &self,
        channel: &ChannelName,
        after: &Position,
        to: u64,
        bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        self.broker.history(channel, after, to, bytes_max)
    }

    fn unsubscribe(&self, channel: &ChannelName) {
        self.broker.unsubscribe(channel);
    }

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        self.broker.clone().close()
    }
}

/// One client asks to be let in while the broker is out of reach, for up to 500 ms if it `returns`.
/// What it is told, and how long that took.
fn admitted(since: Option<Since>, returns: bool) -> (Admission, std::time::Duration) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let mailbox = Arc::new(Mailbox::default());
        let history = broker::HistorySettings {
            messages_max: 10,
            bytes_max: 1_000,
            total_bytes_max: 1_000,
            ttl: std::time::Duration::from_secs(300),
        };
        let settings = broker::Settings { redis: None, on_loss: broker::OnLoss::Local, history };
        let shared = broker::Shared::new(settings, vec![mailbox.clone()]).unwrap();
        let broker = broker::connect(shared, Place::Shard(0)).await;
        let channel = ChannelName::new("a").unwrap();
        for text in ["1", "2", "3"] {
            let message = Message {
                channel: channel.clone(),
                kind: Kind::Text,
                data: text.into(),
                key: None,
            };
            broker.publish(message).await.unwrap();
        }
        let sometimes = Rc::new(Sometimes { broker, is_reached: Cell::new(false) });
        let control = Arc::new(Control::default());
        let (_poller, clients) = clients(&control);
        let core = Core::new(clients, sometimes.clone(), Arc::default(), control);
        let since = since.map(|since| match since {
            Since::After(Position { offset, .. }) => {
                let now = sometimes.broker.position(channel.clone(), None).now_or_never();
                Since::After(Position { epoch: now.flatten().unwrap().epoch, offset })
            }
            newest @ Since::Newest(_) => newest,
        });
        let began = Instant::now();
        if returns {
            let sometimes = sometimes.clone();
            spawn_local(async move {
                time_passes(RESUME_WAIT / 2).await;
                sometimes.is_reached.set(true);
            });
        }
        let entry = admit::door(&core)(vec![Wanted { channel, since }], Encoding::V1).await;
        let admission = entry.unwrap_or_else(|error: NotAdmitted| panic!("{error:?}"));
        (admission, began.elapsed())
    })
}

/// On the paused clock, which goes on by itself when there is nothing else to do.
async fn time_passes(duration: std::time::Duration) {
    tokio::time::sleep(duration).await;
}

fn after(offset: u64) -> Option<Since> {
    Some(Since::After(Position { epoch: "".into(), offset }))
}

#[test]
fn who_resumes_waits_for_a_broker_that_comes_back_soon() {
    let (admission, took) = admitted(after(1), true);
    let [(_, at)] = &admission.positions[..] else { panic!("its position is known") };
    assert_eq!(at.offset, 1, "what it missed follows");
    assert!(took <= RESUME_WAIT / 2 + RESUME_RETRY, "{took:?}");
}

#[test]
fn who_resumes_does_not_wait_for_a_broker_that_stays_away() {
    let (admission, took) = admitted(after(1), false);
    assert!(admission.positions.is_empty(), "nobody knows where it is");
    assert!((RESUME_WAIT..RESUME_WAIT * 2).contains(&took), "{took:?}");
}

#[test]
fn who_comes_for_what_is_new_does_not_wait() {
    let (admission, took) = admitted(None, true);
    assert!(admission.positions.is_empty() && took.is_zero(), "{took:?}");
}
