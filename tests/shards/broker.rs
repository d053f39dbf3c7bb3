//! A server with a broker of the caller's own.

use std::{
    future::ready,
    rc::Rc,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

use futures_util::future::{FutureExt as _, LocalBoxFuture};
use wsbcast::{
    broker::{
        Broker, BrokerFactory, HandleOwner, Health, History, Message, PeriodicSlot, Position,
        Publication, PublishError, Receipt, Recovery, Shared, Since, Sink, SlotOutcome,
        Subscribers,
    },
    channel::ChannelName,
    clock::Clock,
    server::{Exit, Parts, signals::Signal},
};

use crate::{
    PATIENCE, Running, start_of,
    support::{
        client::Client,
        eventually,
        frames::masked,
        http::{get, post},
    },
};

/// How far away the broker is for some messages: several of them take longer than a server without
/// clients needs for its end, and less than the second that it has for what is under way.
const FAR: Duration = Duration::from_millis(100);
/// Three handles, made and closed.
const HANDLES_TOLD_MAX: usize = 6;

/// Counts what is published, and takes everything but what says how it is to fail.
#[derive(Debug)]
struct Factory {
    clock: Clock,
    health: Arc<Health>,
    sinks: Vec<Arc<dyn Sink>>,
    published: Mutex<Vec<String>>,
    /// The owners whose handles were made, and were closed.
    told: Mutex<SyncSender<(HandleOwner, &'static str)>>,
}

#[derive(Debug)]
struct Handle {
    factory: Arc<Factory>,
    owner: HandleOwner,
}

impl Factory {
    fn tell(&self, owner: HandleOwner, what: &'static str) {
        // The test may have heard enough.
        let _ = self.told.lock().unwrap().try_send((owner, what));
    }

    fn position(&self) -> Position {
        Position { epoch: "test".into(), offset: self.published.lock().unwrap().len() as u64 }
    }

    fn publish(&self, message: Message) -> Result<Receipt, PublishError> {
        match &message.data[..] {
            b"lost" => return Err(PublishError::BrokerLost),
            b"in doubt" => return Err(PublishError::Unconfirmed),
            text => self.published.lock().unwrap().push(String::from_utf8(text.into()).unwrap()),
        }
        let position = self.position();
        let Message { channel, kind, data, .. } = message;
        let publication = Publication { channel, kind, data, position: Some(position.clone()) };
        self.sinks.iter().for_each(|sink| sink.deliver(publication.clone()));
        Ok(Receipt::Cluster(position))
    }
}

impl BrokerFactory for Factory {
    fn connect(self: Arc<Self>, owner: HandleOwner) -> Rc<dyn Broker> {
        self.tell(owner, "made");
        Rc::new(Handle { factory: self, owner })
    }

    fn health(&self) -> Arc<Health> {
        self.health.clone()
    }
}

impl History for Handle {
    fn history(
        &self,
        _channel: &ChannelName,
        _after: &Position,
        _to: u64,
        _bytes_max: usize,
    ) -> Option<Vec<Publication>> {
        None
    }
}

impl Broker for Handle {
    fn publish(&self, message: Message) -> LocalBoxFuture<'_, Result<Receipt, PublishError>> {
        let is_far = message.data.starts_with(b"far");
        Box::pin(async move {
            if is_far {
                tokio::time::sleep(FAR).await;
            }
            self.factory.publish(message)
        })
    }

    fn publish_once(&self, slot: PeriodicSlot) -> LocalBoxFuture<'_, SlotOutcome> {
        let next_slot_in_ms = slot.interval_ms;
        ready(SlotOutcome { published: Ok(None), next_slot_in_ms }).boxed_local()
    }

    fn confirm_subscription(&self, _channel: ChannelName) -> LocalBoxFuture<'_, ()> {
        ready(()).boxed_local()
    }

    fn position<'a>(
        &'a self,
        _channel: ChannelName,
        _since: Option<&'a Since>,
    ) -> LocalBoxFuture<'a, Option<Position>> {
        ready(Some(self.factory.position())).boxed_local()
    }

    fn recover(
        &self,
        _channel: ChannelName,
        _since: Since,
        to: Position,
    ) -> LocalBoxFuture<'_, Recovery> {
        ready(Recovery { from: to, missed: None }).boxed_local()
    }

    fn unsubscribe(&self, _channel: &ChannelName) {}

    fn close(self: Rc<Self>) -> LocalBoxFuture<'static, ()> {
        self.factory.tell(self.owner, "closed");
        ready(()).boxed_local()
    }
}

/// A server of two shards with such a broker.
fn start(
    more: &[&str],
    health: impl FnOnce(Clock) -> Health + 'static,
) -> (Running, Arc<Factory>, Receiver<(HandleOwner, &'static str)>) {
    let (told, heard) = sync_channel(HANDLES_TOLD_MAX);
    let (made, factory) = sync_channel(1);
    let make = move |clock, sinks| {
        let (health, published) = (Arc::new(health(clock)), Mutex::default());
        let factory = Arc::new(Factory { clock, health, sinks, published, told: Mutex::new(told) });
        made.send(factory.clone()).unwrap();
        Shared::handed_in(factory)
    };
    let parts = Parts { broker: Some(Box::new(make)), ..Parts::default() };
    let server = start_of(2, &[&["--on-broker-loss", "reject"], more].concat(), parts).unwrap();
    (server, factory.recv().unwrap(), heard)
}

/// A broker that was handed in gets the published messages, and publishers get its answers.
#[test]
fn a_given_brokers_answers_reach_publishers() {
    let (server, factory, heard) = start(&[], Health::embedded);
    let mut client = Client::connect(server.addr);
    let answer = post(server.addr, "/broadcast", "first");
    answer.assert_status(202);
    let json = answer.json();
    assert_eq!((&json["epoch"], &json["offset"]), (&"test".into(), &1.into()), "{json}");
    client.assert_text("first");
    post(server.addr, "/broadcast", "lost").assert_status(503);
    post(server.addr, "/broadcast", "in doubt").assert_status(504);
    post(server.addr, "/broadcast", "second").assert_status(202);
    client.assert_text("second");
    assert_eq!(*factory.published.lock().unwrap(), ["first", "second"]);

    drop(client);
    assert_eq!(server.terminate(), Exit::Drained);
    drop(factory);
    let mut told: Vec<String> =
        heard.try_iter().map(|(owner, what)| format!("{owner:?} {what}")).collect();
    told.sort_unstable();
    let handles = ["Control", "Shard(0)", "Shard(1)"];
    let all = handles.map(|handle| [format!("{handle} closed"), format!("{handle} made")]);
    assert_eq!(told, all.concat(), "each owner has a handle of its own, until the end");
}

/// A server is ready for as long as the broker that was handed in says that it is.
#[test]
fn readiness_follows_a_given_broker() {
    let (server, factory, _heard) =
        start(&[], |clock| Health::redis(clock, 2, Subscribers::PerShard));
    assert_eq!(get(server.addr, "/readyz").status, 503);
    let is_ready = || get(server.addr, "/readyz").status == 200;
    eventually(PATIENCE, "ready", || {
        let now = factory.clock.now();
        (0..2).for_each(|shard| factory.health.heartbeat_returned(shard, now, now));
        is_ready()
    });
    factory.health.link_broken(1);
    assert_eq!(get(server.addr, "/readyz").status, 503);
    assert_eq!(server.terminate(), Exit::Drained);
}

/// The process does not end before what its last clients have left to be published is out.
#[test]
fn the_end_waits_for_what_the_last_client_publishes() {
    for hangs_up in [true, false] {
        let (server, factory, _heard) = start(&["--client-publish", "broadcast"], Health::embedded);
        let mut client = Client::connect(server.addr);
        server.signals.blocking_send(Signal::Terminate("a test")).unwrap();
        eventually(PATIENCE, "draining", || Client::try_connect(server.addr).is_err());
        let texts = ["far 1", "far 2", "far 3"];
        let mut all: Vec<u8> =
            texts.iter().flat_map(|text| masked(true, 1, text.as_bytes())).collect();
        if !hangs_up {
            all.extend(masked(true, 8, &1000_u16.to_be_bytes()));
        }
        client.send(&all);
        drop(client);
        assert_eq!(server.thread.join().unwrap(), Exit::Drained);
        assert_eq!(*factory.published.lock().unwrap(), texts, "{hangs_up}");
    }
}
