//! Many clients that come at once with many channels, on a paused clock.

use std::{
    cell::RefCell,
    io::Read as _,
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::task::{JoinHandle, spawn_local, yield_now};

use super::{core, embedded, sometimes::Sometimes};
use crate::{
    bans::Bearer,
    broker::{
        Announcement, Disconnection, Message, Position, Principal, Publication, Selector, Since,
        Sink,
    },
    channel::{ChannelName, ChannelPatterns},
    clock::{Clock, Millis},
    conn::{Arrival, Connected, Credential, SubscribeRequest, VerifiedToken, socket::Poller},
    drain::Control,
    http::{self, NotAdmitted},
    hub::{Encoding, Key},
    limits::{
        CHANNELS_PER_CLIENT_MAX, JOIN_CHANNELS_AT_ONCE, JOIN_CHANNELS_PENDING_MAX,
        JOIN_QUERIES_MAX, JOIN_WAIT,
    },
    shard::{admit, core::Core, mailbox::Mail, tasks},
    token::Rights,
    ws::Kind,
};

pub(super) struct World {
    pub(super) core: Rc<Core>,
    pub(super) broker: Rc<Sometimes>,
    pub(super) control: Arc<Control>,
    /// Admitted clients stay.
    admitted: Rc<RefCell<Vec<Box<dyn http::Ticket>>>>,
    _poller: Poller,
}

pub(super) fn run<F: Future<Output = ()>>(test: impl FnOnce(World) -> F) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
    runtime.block_on(async {
        let clock = Clock::start();
        let broker = Rc::new(Sometimes::new(embedded(clock).await));
        broker.is_reached.set(true);
        broker.is_slow.set(true);
        let control = Arc::new(Control::default());
        let (_poller, core) = core(clock, broker.clone(), &control);
        let world = World { core, broker, control, admitted: Rc::default(), _poller };
        // On the paused clock that is no time.
        let ended = tokio::time::timeout(JOIN_WAIT * 10, test(world)).await;
        assert!(ended.is_ok(), "somebody waits for ever");
    });
}

fn wanted(name: &str) -> SubscribeRequest {
    SubscribeRequest { channel: ChannelName::new(name).unwrap(), since: None }
}

impl World {
    /// A client comes for so many channels, whose names begin with `name`.
    pub(super) fn come(&self, name: &str, channels: usize) -> JoinHandle<Result<(), NotAdmitted>> {
        let door = admit::admission(&self.core);
        let wanted = (0..channels).map(|n| wanted(&format!("{name}{n}"))).collect();
        let admitted = self.admitted.clone();
        spawn_local(async move {
            let admission = door(wanted, Encoding::V1).await?;
            admitted.borrow_mut().push(admission.ticket);
            Ok(())
        })
    }

    async fn until(&self, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..10_000 {
            if is_so(self) {
                return;
            }
            yield_now().await;
        }
        panic!("{} waiting of {} asked", self.broker.waiting.get(), self.broker.asked.get());
    }

    /// The newest client who was let in gets its 101.
    pub(super) fn connect(&self) -> (Key, TcpStream) {
        self.connect_with(None)
    }

    fn connect_with(&self, credential: Option<Credential>) -> (Key, TcpStream) {
        let ticket = self.admitted.borrow_mut().pop().expect("somebody was let in");
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (connected, peer) = Connected::through(&listener, self.control.barrier.client());
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let arrival = Arrival { credential, ..connected.arrival };
        let connected = Connected { arrival, ..connected };
        (ticket.connect(connected, Millis(0)), peer)
    }
}

#[test]
fn a_query_that_many_have_at_once_is_sent_once() {
    run(|world| async move {
        let many: Vec<_> = (0..40).map(|_| world.come("a", 50)).collect();
        world.until(|world| world.broker.waiting.get() == 50).await;
        world.broker.is_slow.set(false);
        world.broker.go.notify_waiters();
        for one in many {
            assert_eq!(one.await.unwrap(), Ok(()));
        }
        assert_eq!(world.broker.asked.get(), 50, "each channel once");
        assert!(world.core.join_limiter.is_idle() && world.core.joins.is_idle());
    });
}

#[test]
fn another_client_asks_once_the_asking_one_leaves() {
    run(|world| async move {
        let first = world.come("a", 1);
        world.until(|world| world.broker.waiting.get() == 1).await;
        let second = world.come("a", 1);
        yield_now().await;
        first.abort();
        world.broker.is_slow.set(false);
        assert_eq!(second.await.unwrap(), Ok(()));
        assert_eq!(world.broker.asked.get(), 2);
    });
}

/// The number of channels joined at a time is bounded, and few channels do not wait for many.
#[test]
fn joining_is_bounded_and_fair() {
    run(|world| async move {
        let fit = JOIN_CHANNELS_PENDING_MAX / CHANNELS_PER_CLIENT_MAX;
        let began = Clock::start().instant();
        let come = |n| world.come(&format!("c{n}-"), CHANNELS_PER_CLIENT_MAX);
        let many: Vec<_> = (0..fit).map(come).collect();
        world.until(|world| world.broker.waiting.get() == JOIN_QUERIES_MAX).await;
        for _ in 0..100 {
            yield_now().await;
        }
        assert_eq!(world.broker.waiting.get(), JOIN_QUERIES_MAX, "no more at a time");
        let joined = world.core.with(|clients| clients.has_channel("c0-0"));
        let waits = world.core.with(|clients| clients.has_channel("c9-0"));
        assert!(joined && !waits, "who waits holds nothing yet");

        let one_more = world.come("more", CHANNELS_PER_CLIENT_MAX).await.unwrap();
        assert_eq!((one_more, began.elapsed().as_secs()), (Err(NotAdmitted::Busy), 0));
        let one = world.come("one", 1);
        world.until(|world| world.core.with(|clients| clients.has_channel("one0"))).await;

        let waited = many.into_iter().skip(JOIN_CHANNELS_AT_ONCE / CHANNELS_PER_CLIENT_MAX);
        for one in waited {
            assert_eq!(one.await.unwrap(), Err(NotAdmitted::Busy));
        }
        assert!(began.elapsed() >= JOIN_WAIT, "they waited for a turn");
        world.broker.is_slow.set(false);
        for _ in 0..JOIN_CHANNELS_AT_ONCE {
            world.broker.go.notify_waiters();
            yield_now().await;
        }
        assert_eq!(one.await.unwrap(), Ok(()));
        assert!(world.core.join_limiter.is_idle() && world.core.joins.is_idle());
    });
}

/// A claimed position beyond the broker's is answered and not waited for.
#[test]
fn a_position_ahead_of_the_broker_is_not_awaited() {
    run(|world| async move {
        world.broker.is_slow.set(false);
        world.come("a", 1).await.unwrap().unwrap();
        let channel = ChannelName::new("a0").unwrap();
        let at = world.core.broker.position(channel.clone(), None).await.unwrap();
        let began = Clock::start().instant();
        let since = Some(Since::After(Position { offset: 1_000_000, ..at.clone() }));
        let admission =
            admit::admission(&world.core)(vec![SubscribeRequest { channel, since }], Encoding::V1);
        let admission = admission.await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(admission.positions[0].1, at, "it begins where the channel is");
        assert!(began.elapsed().is_zero(), "{:?}", began.elapsed());
    });
}

/// A client that comes to one which was told no position does not rob it of what is in the mailbox,
/// nor of what follows that.
#[test]
fn mail_that_waits_comes_before_a_baseline() {
    run(|world| async move {
        world.broker.is_slow.set(false);
        world.broker.is_reached.set(false);
        world.come("a", 1).await.unwrap().unwrap();
        let (_, mut peer) = world.connect();
        let channel = ChannelName::new("a0").unwrap();
        for _ in 1..=10 {
            let (channel, kind) = (channel.clone(), Kind::Text);
            let (publisher, data) = (Principal::Api, Bytes::from_static(b"-"));
            let message = Message { publisher, channel, kind, data, key: None };
            world.broker.broker.publish(message).await.unwrap();
        }
        let newest = world.broker.broker.position(channel.clone(), None).await.unwrap();
        assert_eq!(newest.offset, 10);
        let deliver = |offset: u64| {
            let position = Some(Position { offset, ..newest.clone() });
            let (channel, data) = (channel.clone(), format!("<{offset}>").into());
            world.core.mailbox.deliver(Publication { channel, kind: Kind::Text, data, position });
        };
        deliver(6);
        world.broker.is_reached.set(true);
        let second = world.come("a", 1);
        for _ in 0..100 {
            yield_now().await;
        }
        tasks::append_all(&world.core);
        second.await.unwrap().unwrap();
        (7..=11).for_each(deliver);
        tasks::append_all(&world.core);
        world.core.with(|clients| while clients.pass(&mut || true).more {});
        let mut text = String::new();
        while !text.contains("<11>") {
            let mut some = [0; 1024];
            let count = peer.read(&mut some).unwrap();
            assert!(count > 0, "it stays");
            text += &String::from_utf8_lossy(&some[..count]);
        }
        for offset in 6..=10 {
            assert!(text.contains(&format!("<{offset}>")), "{offset} is missing: {text}");
        }
    });
}

/// A subscription past the bound is answered with an error.
#[test]
fn a_subscription_past_the_bound_is_an_error() {
    run(|world| async move {
        world.broker.is_slow.set(false);
        world.come("a", 1).await.unwrap().unwrap();
        let (key, mut peer) = world.connect();
        world.broker.is_slow.set(true);
        let fit = JOIN_CHANNELS_PENDING_MAX / CHANNELS_PER_CLIENT_MAX;
        let come = |n| world.come(&format!("c{n}-"), CHANNELS_PER_CLIENT_MAX);
        let many: Vec<_> = (0..fit).map(come).collect();
        world.until(|world| world.broker.waiting.get() == JOIN_QUERIES_MAX).await;
        let rest = world.come("rest", JOIN_CHANNELS_PENDING_MAX % CHANNELS_PER_CLIENT_MAX);
        yield_now().await;
        admit::subscribe(&world.core, key, wanted("b")).await;
        let mut answer = Vec::new();
        while !answer.windows(16).any(|bytes| bytes == br#"{"type":"error","#) {
            let mut some = [0; 1024];
            let count = peer.read(&mut some).unwrap();
            answer.extend_from_slice(&some[..count]);
        }
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.contains(r#""code":"full""#) && answer.contains(r#""channel":"b""#),
            "{answer}"
        );
        assert!(!world.core.with(|clients| clients.has_channel("b")));
        many.into_iter().chain([rest]).for_each(|one| one.abort());
    });
}

/// A token is verified before its client is in the table of those that can be disconnected.
#[test]
fn a_client_disconnected_while_it_comes_is_closed() {
    run(|world| async move {
        world.broker.is_slow.set(false);
        let token = |sub: &str| {
            let rights = Rights {
                subscribe: ChannelPatterns::all(),
                publish: ChannelPatterns::default(),
                sub: Some(sub.into()),
                jti: None,
                expires_at: None,
                verified_at: 0,
            };
            let verified = VerifiedToken::new(Arc::new(rights), Millis(0), Duration::ZERO);
            Some(Credential::Token(verified))
        };
        for _ in 0..2 {
            world.come("a", 1).await.unwrap().unwrap();
        }
        let disconnection = Disconnection {
            selector: Selector::Bearer(Bearer::Subject("alice".into())),
            may_return: false,
            banned_for: Some(Duration::from_secs(60)),
        };
        let (bearer, time) = disconnection.ban().unwrap();
        world.core.verifier.bans().add(bearer, time).unwrap();
        let announcement = Announcement::Disconnect(disconnection);
        let (count, counted) = tokio::sync::oneshot::channel();
        tasks::deliver(&world.core, Mail::Announcement(announcement, Some(count)), &mut Vec::new());
        assert_eq!(counted.await, Ok(0), "nobody is known to be her");
        let publish = |data: &'static [u8]| {
            let channel = ChannelName::new("a0").unwrap();
            let data = Bytes::from_static(data);
            let message = Publication { channel, kind: Kind::Text, data, position: None };
            world.core.with(|clients| {
                clients.append(&message);
                while clients.pass(&mut || true).more {}
            });
        };
        publish(b"not for her");
        let (_, mut peer) = world.connect_with(token("alice"));
        let (_, mut other) = world.connect_with(token("bob"));
        let mut end = Vec::new();
        peer.read_to_end(&mut end).unwrap();
        let code = [0x88, 14, 0x11, 0x33];
        assert!(end.windows(4).any(|bytes| bytes == code), "4403: {end:?}");
        let end = String::from_utf8_lossy(&end);
        assert!(!end.contains("not for her"), "logged since she was admitted: {end}");
        world.core.with(|clients| assert_eq!(clients.keys().len(), 2));
        publish(b"still here");
        let mut text = Vec::new();
        while !text.windows(10).any(|bytes| bytes == b"still here") {
            let mut some = [0; 1024];
            let count = other.read(&mut some).unwrap();
            assert!(count > 0, "the other one stays");
            text.extend_from_slice(&some[..count]);
        }
    });
}
