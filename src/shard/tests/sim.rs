//! Publishers, subscribers, resumes and lost histories against a naive model, from a seed.
//!
//! Two shards with one embedded broker. Publishing, mail, passes, handshakes' progress and clients'
//! reads are random operations. Each `wsbcast.v1` message's position must follow the one before, or
//! a gap must have been reported. `WSBCAST_SIM_SEED=n` runs one seed alone.

mod client;
mod moving;

use std::{
    cell::RefCell,
    io::{ErrorKind, Read as _},
    net::TcpListener,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::task::yield_now;

use super::core_of;
use client::{Client, Published, take_text};

use crate::{
    broker::{
        self, HandleOwner, HistorySettings, Message, OnLoss, Position, Principal, Receipt, Since,
        Sink,
    },
    channel::ChannelName,
    clock::{Clock, Millis},
    conn::{Connected, ConnectionTable, SubscribeRequest, socket::Poller},
    drain::Control,
    http::NotAdmitted,
    hub::Encoding,
    limits::RESUME_WAIT,
    seeds,
    shard::{admit, core::Core, mailbox::Mailbox, tasks},
    ws::Kind,
};

const SEEDS: u64 = 10_000;
const SHARDS: usize = 2;
const CHANNELS: usize = 3;
const CLIENTS_MAX: usize = 6;

/// Each client gets every message once and in order, or is told, whatever happens.
#[test]
fn each_client_gets_each_message_once_or_is_told() {
    let counts = seeds::run_all(SEEDS, run);
    let Some([resumed, gaps, refused, moved]) = counts else { return };
    let is_wild = resumed > SEEDS && gaps > SEEDS && refused > 100 && moved > SEEDS;
    assert!(is_wild, "{counts:?}: too tame");
}

/// On a paused clock: time passes only on request. Returns how many clients came back, how many
/// gaps were reported, how many clients were refused because they were ahead, and how many went on
/// in another table.
fn run(seed: u64) -> [u64; 4] {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build_local(Default::default()).unwrap();
    runtime.block_on(async { World::new(seed).await.run().await })
}

struct Shard {
    core: Rc<Core>,
    _poller: Poller,
}

impl Shard {
    fn deliver_all(&self) {
        tasks::append_all(&self.core);
    }

    /// Each client that waits for a turn has one.
    fn follow_up_all(&self) {
        for follow_up in self.core.with(ConnectionTable::take_follow_ups) {
            let broker = &*self.core.broker;
            self.core.with(|clients| clients.follow_up(follow_up, Millis(0), broker));
        }
    }
}

struct World {
    random: fastrand::Rng,
    shards: Vec<Shard>,
    shared: Arc<broker::Shared>,
    control: Arc<Control>,
    channels: Vec<ChannelName>,
    published: Vec<Published>,
    listener: TcpListener,
    clients: Vec<Client>,
    next_id: u64,
    resumed: u64,
    gaps: u64,
    refused: u64,
    moved: u64,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let clock = Clock::start();
        let mailboxes: Vec<_> = (0..SHARDS).map(|_| Arc::new(Mailbox::new(clock))).collect();
        let sinks = mailboxes.iter().map(|mailbox| mailbox.clone() as Arc<dyn Sink>).collect();
        let history = HistorySettings {
            messages_max: random.usize(0..12),
            bytes_max: random.usize(0..3_000),
            total_bytes_max: random.usize(0..6_000),
            ttl: Duration::from_secs(300),
        };
        let settings = broker::BrokerSettings { redis: None, on_loss: OnLoss::Local, history };
        let shared = broker::Shared::new(clock, settings, sinks).unwrap();
        let control = Arc::new(Control::default());
        let mut shards = Vec::new();
        for (index, mailbox) in mailboxes.into_iter().enumerate() {
            let broker = broker::connect(shared.clone(), HandleOwner::Shard(index)).await;
            let (poller, core) = core_of(clock, broker, mailbox, &control);
            shards.push(Shard { core, _poller: poller });
        }
        Self {
            shards,
            shared,
            control,
            channels: (0..CHANNELS).map(|n| ChannelName::new(&format!("c{n}")).unwrap()).collect(),
            published: (0..CHANNELS).map(|_| Published::default()).collect(),
            listener: TcpListener::bind("127.0.0.1:0").unwrap(),
            clients: Vec::new(),
            next_id: 0,
            resumed: 0,
            gaps: 0,
            refused: 0,
            moved: 0,
            random,
        }
    }

    async fn run(mut self) -> [u64; 4] {
        for _ in 0..self.random.usize(20..150) {
            self.step();
            match self.random.u8(0..100) {
                // Long enough for clients that had got further elsewhere than this shard.
                0 => tokio::time::sleep(RESUME_WAIT).await,
                1..50 => {
                    yield_now().await;
                    self.shards.iter().for_each(Shard::follow_up_all);
                }
                _ => {}
            }
            self.drop_refused();
        }
        self.finish().await;
        [self.resumed, self.gaps, self.refused, self.moved]
    }

    fn step(&mut self) {
        match self.random.u8(0..102) {
            0..=29 => self.publish(),
            30..=49 => self.deliver_one(),
            50..=59 => self.pass(),
            60..=71 => self.open(),
            72..=81 => self.attach(),
            82..=92 => self.read_one(),
            93..=98 => self.disconnect(),
            100..=101 => self.move_shard(),
            _ => self.lose_history(),
        }
    }

    fn publish(&mut self) {
        let channel = self.random.usize(0..CHANNELS);
        self.next_id += 1;
        let data = Bytes::from(self.next_id.to_string());
        let name = self.channels[channel].clone();
        let message =
            Message { publisher: Principal::Api, channel: name, kind: Kind::Text, data, key: None };
        let shard = self.random.usize(0..SHARDS);
        let publishing = self.shards[shard].core.broker.publish(message);
        let receipt = publishing.now_or_never().expect("the embedded broker answers at once");
        let Ok(Receipt::Cluster(position)) = receipt else { panic!("{receipt:?}") };
        let published = &mut self.published[channel];
        let epoch = published.by_epoch.entry(position.epoch.to_string()).or_default();
        epoch.push(self.next_id);
        assert_eq!(epoch.len() as u64, position.offset, "offsets have no holes");
        published.last = Some((position.epoch.to_string(), position.offset));
    }

    /// One piece of mail arrives at one shard.
    fn deliver_one(&mut self) {
        let shard = &self.shards[self.random.usize(0..SHARDS)];
        let mut mail = Vec::new();
        shard.core.mailbox.take(0, &mut mail);
        for piece in mail {
            tasks::deliver(&shard.core, piece, &mut Vec::new());
        }
    }

    fn pass(&mut self) {
        let shard = &self.shards[self.random.usize(0..SHARDS)];
        let mut visits = self.random.usize(0..4);
        shard.core.with(|clients| {
            clients.pass(&mut || {
                visits = visits.saturating_sub(1);
                visits > 0
            })
        });
    }

    /// A new client, or one that comes back with the position of one that was cut off.
    fn open(&mut self) {
        if self.clients.len() == CLIENTS_MAX {
            return;
        }
        let channel = self.random.usize(0..CHANNELS);
        let since = match self.random.u8(0..4) {
            0 => None,
            1 => Some(Since::Newest(self.random.usize(0..8))),
            _ => self.some_position(channel).map(Since::After),
        };
        let after = match &since {
            Some(Since::After(position)) => Some(position.clone()),
            _ => None,
        };
        self.resumed += u64::from(after.is_some());
        self.admit(channel, since, after);
    }

    /// A present or past position of some client of the channel: any position there ever was.
    fn some_position(&mut self, channel: usize) -> Option<Position> {
        let epochs: Vec<_> = self.published[channel].by_epoch.iter().collect();
        let (epoch, messages) = *epochs.get(self.random.usize(0..epochs.len().max(1)))?;
        let offset = self.random.u64(0..=messages.len() as u64);
        Some(Position { epoch: epoch.as_str().into(), offset })
    }

    fn admit(&mut self, channel: usize, since: Option<Since>, after: Option<Position>) {
        let shard = self.random.usize(0..SHARDS);
        let wanted = vec![SubscribeRequest { channel: self.channels[channel].clone(), since }];
        let admission = Rc::new(RefCell::new(None));
        let (slot, door) = (admission.clone(), admit::admission(&self.shards[shard].core));
        tokio::task::spawn_local(async move {
            let admitted = door(wanted, Encoding::V1).await;
            *slot.borrow_mut() = Some(admitted);
        });
        let (peer, input, at) = (None, Vec::new(), None);
        self.clients.push(Client { shard, channel, admission, peer, input, at, since: after });
    }

    /// A client that is ahead of its shard for too long is told to try again: nothing was sent to
    /// it.
    fn drop_refused(&mut self) {
        let before = self.clients.len();
        self.clients.retain(|client| match &*client.admission.borrow() {
            Some(Err(why)) => {
                assert_eq!(*why, NotAdmitted::Behind, "there is room for three channels");
                assert!(client.since.is_some(), "it is ahead of something");
                false
            }
            _ => true,
        });
        self.refused += (before - self.clients.len()) as u64;
    }

    /// The 101 of a client that was admitted goes out.
    fn attach(&mut self) {
        let waiting =
            |client: &Client| client.peer.is_none() && client.admission.borrow().is_some();
        let waiting: Vec<_> =
            (0..self.clients.len()).filter(|&n| waiting(&self.clients[n])).collect();
        if let Some(&client) = waiting.get(self.random.usize(0..waiting.len().max(1))) {
            self.attach_client(client);
        }
    }

    fn attach_client(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let admission = client.admission.borrow_mut().take().expect("it was looked at");
        let admission = admission.expect("who was refused is gone");
        let (_, at) = admission.positions.into_iter().next().expect("a position is always known");
        // From the position at which it resumes it must get the next messages, or be told.
        client.at = Some(client.since.clone().unwrap_or(at));
        let guard = self.control.barrier.client();
        let (connected, peer) = Connected::through(&self.listener, guard);
        peer.set_nonblocking(true).unwrap();
        admission.ticket.connect(connected, Millis(0));
        client.peer = Some(peer);
    }

    fn read_one(&mut self) {
        if !self.clients.is_empty() {
            let client = self.random.usize(0..self.clients.len());
            self.read(client);
        }
    }

    fn read(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(peer) = &mut client.peer else { return };
        let mut buffer = [0; 4096];
        loop {
            match peer.read(&mut buffer) {
                Ok(0) => panic!("nobody is closed here"),
                Ok(count) => client.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        while let Some(text) = take_text(&mut client.input) {
            let json: Value = serde_json::from_str(&text).expect("v1 frames are JSON");
            self.gaps += u64::from(client.hear(&json, &self.published));
        }
    }

    fn disconnect(&mut self) {
        if !self.clients.is_empty() {
            let client = self.random.usize(0..self.clients.len());
            // Its key is not known here: a dead peer is found when it is written to, or never.
            self.clients.swap_remove(client);
        }
    }

    /// The broker forgets a channel, which continues under another epoch. That takes so many
    /// messages of other channels that its own are no longer under way.
    fn lose_history(&mut self) {
        self.shards.iter().for_each(Shard::deliver_all);
        let channel = self.random.usize(0..CHANNELS);
        self.shared.forget(&self.channels[channel]);
    }

    /// Everything arrives, everyone is let in and reads; then everyone has everything.
    async fn finish(&mut self) {
        for round in 0..200 {
            if round % 50 == 49 {
                // A client that claims a position that no shard will reach has waited long enough.
                tokio::time::sleep(RESUME_WAIT).await;
            }
            for shard in &self.shards {
                shard.deliver_all();
                while shard.core.with(|clients| clients.pass(&mut || true)).more {}
            }
            yield_now().await;
            self.shards.iter().for_each(Shard::follow_up_all);
            self.drop_refused();
            for client in 0..self.clients.len() {
                let waits = self.clients[client].admission.borrow().is_some();
                if self.clients[client].peer.is_none() && waits {
                    self.attach_client(client);
                }
                self.read(client);
            }
            if self.is_settled() {
                return;
            }
        }
        let missing = self.clients.iter().find(|client| !self.has_everything(client));
        panic!("somebody does not get everything: {:?}", missing.map(|client| &client.at));
    }

    fn is_settled(&self) -> bool {
        self.clients.iter().all(|client| self.has_everything(client))
    }

    fn has_everything(&self, client: &Client) -> bool {
        let published = &self.published[client.channel];
        let Some(at) = client.at.as_ref().filter(|_| client.peer.is_some()) else { return false };
        match &published.last {
            Some((epoch, offset)) if **epoch == *at.epoch => at.offset == *offset,
            // The channel was forgotten since, or never published to.
            _ => at.offset == 0 && !published.by_epoch.contains_key(&*at.epoch),
        }
    }
}
