//! HTTP connections that stop and go on here or in another shard, which stands for another process:
//! real sockets, each request answered exactly once.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    num::NonZeroU32,
    rc::Rc,
    sync::Arc,
};

use tokio::{task::spawn_local, time::timeout};

use super::{PATIENCE, core, embedded, many_rounds, on_a_shards_thread, until};
use crate::{
    admission::{AddressLimitSettings, AddressLimits},
    clock::Clock,
    drain::Control,
    http::{ConnectionRecord, Context, Places, Room, tests::Fixture},
    metrics::Placed,
    peer::{Announced, TrustedProxies},
    record::recordings::through_bytes,
    shard::{
        accept::{accept, give_turns, take_moved},
        core::Core,
        intake::{ConnectionIntake, Ways},
        listener::{Accepted, Entrance, Entrances, Transport},
        placement::Placement,
        stream::{Listener, PlainStream},
    },
};

const LIVE: &str = "GET /livez HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";
const PUBLICATION: &str =
    "POST /broadcast HTTP/1.1\r\nHost: localhost:8000\r\nContent-Length: 9\r\n\r\nsomething";
const ANNOUNCED: &str = "PROXY TCP4 192.0.2.7 127.0.0.1 4711 8000\r\n";
const ENTRANCE: Entrance = Entrance { listener: 1, transport: Transport::Plain };

/// The way into a shard that does nothing else.
struct Shard {
    core: Rc<Core>,
    intake: Rc<ConnectionIntake>,
    places: Rc<Places>,
    placement: Arc<Placement>,
    limits: Arc<AddressLimits>,
}

impl Shard {
    async fn new(room: Room, is_successor: bool, change: fn(&mut Context)) -> Self {
        let clock = Clock::start();
        let control = Arc::new(Control::default());
        let (_poller, core) = core(clock, embedded(clock).await, &control);
        let mut context = Fixture::new().context;
        change(&mut context);
        let limits = context.public.as_ref().unwrap().address_limits.clone();
        if is_successor {
            core.close_entrance();
        }
        let metrics = core.metrics.clone();
        let places = Places::new(clock, room, 2, metrics.clone());
        let placement = Arc::new(Placement::new(&[metrics], 100));
        let named = |address: &str| (Transport::Plain, address.to_owned());
        let entrances = Entrances::new(["127.0.0.1:1", "127.0.0.1:2"].map(named)).into();
        let ways = Ways { placement: placement.clone(), index: 0, entrances };
        let intake =
            ConnectionIntake::new(core.clone(), Rc::new(context), places.clone(), None, ways);
        spawn_local(give_turns(intake.clone()));
        Self { core, intake, places, placement, limits }
    }

    /// With room for all.
    async fn roomy(is_successor: bool, change: fn(&mut Context)) -> Self {
        Self::new(Room { places: 100, spare: 1 }, is_successor, change).await
    }

    fn connect(&self) -> Client {
        let (client, accepted) = Client::connect();
        let peer = accepted.peer_addr().unwrap();
        self.intake.welcome(PlainStream::Bare(accepted), ENTRANCE, peer.into());
        client
    }

    /// All connections stop that can.
    fn suspend(&self) {
        self.core.close_entrance();
        self.intake.suspend();
    }

    async fn all_stopped(&self) {
        timeout(PATIENCE, self.intake.all_stopped()).await.expect("they all stop");
    }

    fn go_on(&self) {
        self.core.entrance.open();
        self.intake.resume();
    }

    /// It has no connections: each of them keeps hold of the places.
    fn is_empty(&self) -> bool {
        Rc::strong_count(&self.places) == 2
    }

    /// All records, as another process reads them.
    fn recorded(&self) -> Vec<(ConnectionRecord, TcpStream)> {
        self.intake.suspended().map(|(record, stream)| (through_bytes(&record), stream)).collect()
    }

    /// Another process has all connections from here on.
    async fn give_to(&self, other: &Self) -> usize {
        let recorded = self.recorded();
        let count = recorded.len();
        for (record, stream) in recorded {
            assert_eq!(record.listener, "127.0.0.1:2");
            other.intake.restore(&record, stream);
        }
        many_rounds().await;
        assert_eq!(other.intake.under_way(), 0, "nothing begins before the old process lets go");
        self.intake.let_go();
        many_rounds().await;
        other.go_on();
        count
    }
}

/// The client's end of a connection, and all that has come.
struct Client {
    stream: TcpStream,
    answers: String,
}

impl Client {
    /// The other end does not block.
    fn connect() -> (Self, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.set_nonblocking(true).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        (Self { stream, answers: String::new() }, accepted)
    }

    fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Whether the connection is open; what has come by it is read.
    fn is_open(&mut self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.answers += std::str::from_utf8(&bytes[..count]).unwrap(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// The statuses of all answers so far.
    fn statuses(&mut self) -> Vec<u16> {
        assert!(self.is_open(), "it is never closed: {}", self.answers);
        let heads = self.answers.split("HTTP/1.1 ").skip(1);
        heads.map(|head| head[..3].parse().unwrap()).collect()
    }

    async fn has_got(&mut self, statuses: &[u16]) {
        until(|| self.statuses().len() >= statuses.len()).await;
        assert_eq!(self.statuses(), statuses);
    }
}

/// Connections that wait for the rest of `requests`, of which bytes were sent up to any cut. The
/// earlier requests are answered.
async fn cut_anywhere(shard: &Shard, requests: &[(&'static str, u16)]) -> Vec<Cut> {
    let mut all = Vec::new();
    for (number, (request, _)) in requests.iter().enumerate() {
        for cut in [0, 1, 20, request.len() - 1] {
            let mut client = shard.connect();
            let statuses: Vec<_> = requests[..=number].iter().map(|(_, status)| *status).collect();
            for (earlier, (request, _)) in requests[..number].iter().enumerate() {
                client.say(request);
                client.has_got(&statuses[..=earlier]).await;
            }
            let (begin, rest) = request.split_at(cut);
            client.say(begin);
            all.push(Cut { client, rest, statuses });
        }
    }
    many_rounds().await;
    all
}

/// A connection with a part of a request.
struct Cut {
    client: Client,
    rest: &'static str,
    /// Of all answers in the end.
    statuses: Vec<u16>,
}

impl Cut {
    async fn comes_to_its_end(&mut self) {
        self.client.has_got(&self.statuses).await;
        self.client.say(LIVE);
        let statuses = [&self.statuses[..], &[200]].concat();
        self.client.has_got(&statuses).await;
    }
}

/// Every connection goes on in another process, wherever its requests were cut, and in the old one
/// if the new one dies: each request is answered once, and no connection is closed.
#[test]
fn connections_go_on_here_or_in_another_process() {
    for is_given in [true, false] {
        on_a_shards_thread(async || {
            let (old, new) = (Shard::roomy(false, |_| ()).await, Shard::roomy(true, |_| ()).await);
            let mut all = cut_anywhere(&old, &[(LIVE, 200), (LIVE, 200)]).await;
            let mut together = old.connect();
            old.suspend();
            old.all_stopped().await;
            for Cut { client, rest, .. } in &mut all {
                client.say(rest);
            }
            together.say(&LIVE.repeat(3));
            many_rounds().await;
            assert!(all.iter_mut().all(|one| one.client.statuses().len() < one.statuses.len()));
            if is_given {
                assert_eq!(old.give_to(&new).await, all.len() + 1);
                until(|| old.is_empty()).await;
            } else {
                drop(old.recorded());
                old.go_on();
            }
            for one in &mut all {
                one.comes_to_its_end().await;
            }
            together.has_got(&[200, 200, 200]).await;
            drop((all, together));
            until(|| old.is_empty() && new.is_empty()).await;
        });
    }
}

/// A request whose body is still coming is waited for, then its connection goes on elsewhere; one
/// that takes too long is answered here, for the last time.
#[test]
fn a_request_under_way_is_waited_for_and_not_lost() {
    on_a_shards_thread(async || {
        let (old, new) = (Shard::roomy(false, |_| ()).await, Shard::roomy(true, |_| ()).await);
        let (begin, rest) = PUBLICATION.split_at(PUBLICATION.len() - 3);
        let (mut quick, mut slow) = (old.connect(), old.connect());
        quick.say(begin);
        slow.say(begin);
        many_rounds().await;
        old.suspend();
        many_rounds().await;
        assert_eq!(old.intake.under_way(), 2);
        quick.say(rest);
        quick.has_got(&[202]).await;
        until(|| old.intake.under_way() == 1).await;
        assert_eq!(old.give_to(&new).await, 1);
        slow.say(rest);
        until(|| !slow.is_open()).await;
        assert!(slow.answers.contains(" 202 ") && slow.answers.contains("connection: close"));
        quick.say(LIVE);
        quick.has_got(&[202, 200]).await;
    });
}

/// A newcomer that waits for a place when all stop, and one that is on its way from another thread,
/// are handed over, too; those that were not accepted stay in the kernel.
#[test]
fn newcomers_that_have_no_place_yet_are_not_lost() {
    for is_given in [true, false] {
        on_a_shards_thread(async || {
            let none_left = Room { places: 1, spare: 0 };
            let (old, new) =
                (Shard::new(none_left, false, |_| ()).await, Shard::roomy(true, |_| ()).await);
            let mut busy = old.connect();
            let (begin, rest) = PUBLICATION.split_at(PUBLICATION.len() - 3);
            busy.say(begin);
            many_rounds().await;
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let connect = || {
                let stream = TcpStream::connect(socket.local_addr().unwrap()).unwrap();
                stream.set_nonblocking(true).unwrap();
                Client { stream, answers: String::new() }
            };
            let waiting = connect();
            let listener = Listener::new(socket.try_clone().unwrap()).unwrap();
            spawn_local(accept(old.intake.clone(), listener, ENTRANCE));
            spawn_local(take_moved(old.intake.clone(), Arc::default()));
            until(|| old.intake.under_way() == 2).await;
            let (moved, stream) = Client::connect();
            let accepted = Accepted { stream, entrance: ENTRANCE };
            old.placement.place(accepted, Placed::Balance, old.core.clock.now());
            old.suspend();
            assert_eq!(old.intake.under_way(), 3);
            let mut late = connect();
            late.say(LIVE);
            until(|| old.intake.under_way() == 1).await;
            busy.say(rest);
            busy.has_got(&[202]).await;
            old.all_stopped().await;
            many_rounds().await;
            assert!(late.statuses().is_empty(), "nobody is accepted");
            if is_given {
                assert_eq!(old.give_to(&new).await, 3);
                let listener = Listener::new(socket.try_clone().unwrap()).unwrap();
                spawn_local(accept(new.intake.clone(), listener, ENTRANCE));
            } else {
                old.go_on();
            }
            // One after the other: in the end there is one place for all of them.
            busy.say(LIVE);
            busy.has_got(&[202, 200]).await;
            drop(busy);
            for mut client in [waiting, moved] {
                client.say(LIVE);
                client.has_got(&[200]).await;
            }
            late.has_got(&[200]).await;
        });
    }
}

/// A proxy's announcement that has come in part is kept, and one that has come, too.
#[test]
fn a_proxys_word_is_kept_in_any_part() {
    fn behind_a_proxy(context: &mut Context) {
        let mut proxies = TrustedProxies::default();
        proxies.add("127.0.0.1").unwrap();
        context.settings.trusted_proxies = proxies.into();
        context.settings.proxy_protocol = true;
    }
    on_a_shards_thread(async || {
        let old = Shard::roomy(false, behind_a_proxy).await;
        let new = Shard::roomy(true, behind_a_proxy).await;
        let text = ANNOUNCED.to_owned() + PUBLICATION;
        let announced = ANNOUNCED.len();
        let cuts = [0, 1, 10, announced - 1, announced, announced + 1, announced + 30];
        let mut all = Vec::new();
        for cut in cuts {
            let mut client = old.connect();
            client.say(&text[..cut]);
            all.push(client);
        }
        many_rounds().await;
        old.suspend();
        old.all_stopped().await;
        let known = old.recorded();
        let known = known.iter().filter_map(|(record, _)| record.announced()).collect::<Vec<_>>();
        let client = Announced::Client("192.0.2.7".parse::<std::net::IpAddr>().unwrap().into());
        assert_eq!(known, [client; 3]);
        for (client, cut) in all.iter_mut().zip(cuts) {
            client.say(&text[cut..]);
        }
        assert_eq!(old.give_to(&new).await, cuts.len());
        for client in &mut all {
            // A client from elsewhere may not publish; the proxy, which is on this machine, might.
            until(|| !client.is_open()).await;
            assert_eq!(client.answers.matches("HTTP/1.1 403 ").count(), 1, "{}", client.answers);
            assert_eq!(client.answers.matches("HTTP/1.1 ").count(), 1);
        }
    });
}

/// Connections that say nothing count where they end, and not where they were let go.
#[test]
fn a_silent_connection_counts_once() {
    fn limited(context: &mut Context) {
        let handshakes_max = NonZeroU32::new(1);
        let settings = AddressLimitSettings { handshakes_max, ..Default::default() };
        context.public.as_mut().unwrap().address_limits = AddressLimits::new(settings).into();
    }
    on_a_shards_thread(async || {
        let (old, new) = (Shard::roomy(false, limited).await, Shard::roomy(true, limited).await);
        let all: Vec<_> = (0..10).map(|_| old.connect()).collect();
        many_rounds().await;
        old.suspend();
        old.all_stopped().await;
        assert_eq!(old.give_to(&new).await, 10);
        until(|| old.is_empty()).await;
        drop(all);
        until(|| new.is_empty()).await;
        let here = "127.0.0.1".parse::<std::net::IpAddr>().unwrap().into();
        let allowed = |shard: &Shard| shard.limits.handshake(here, shard.core.clock.now()).is_ok();
        assert!(allowed(&old) && !allowed(&new));
    });
}
