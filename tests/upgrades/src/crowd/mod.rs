//! The clients that stay: a thread, one epoll set, and orders from the conductor.
//!
//! Nobody of them connects twice: a client that is closed is lost, and counted. They are told to
//! begin a message of their own and, an upgrade later, to finish it; to stop reading, and to read
//! on.

mod books;
mod newcomers;
mod plan;

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TryRecvError, sync_channel},
    },
    thread::{Builder, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use mio::{Events, Poll, Token};
use testkit::{clock, wait::wait_for};
use wsload::{
    client_frame,
    connection::{Books as _, Connection},
};

use self::{books::Books, plan::Role};
pub(crate) use self::{
    books::{Progress, Verdict, Window},
    newcomers::{Newcomers, NewcomersVerdict},
    plan::{FAST, MAIN, Plan},
};

/// Connects under way: fewer than any listen queue holds.
const CONNECTING_MAX: usize = 128;
const EVENTS_PER_TURN: usize = 1024;
const READ_BUFFER_BYTES: usize = 256 * 1024;
const TURN_MAX: Duration = Duration::from_millis(2);
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// A frame's first byte: a whole text message.
const TEXT_WHOLE: u8 = 0x81;
/// The first frame of several.
const TEXT_FIRST: u8 = 0x01;
/// The last of them.
const TEXT_LAST: u8 = 0x80;

/// An order to the clients; the answer goes where it says.
#[derive(Debug)]
enum Order {
    Progress(SyncSender<Progress>),
    /// Begins a message of one's own.
    Begin,
    /// Finishes it.
    Finish,
    /// Laggards stop to read.
    Stall,
    /// Laggards read on; all that do not read, too.
    ReadOn {
        everybody: bool,
    },
    /// The silences since the last such order.
    Window(SyncSender<Window>),
    /// Messages that were sent, by publisher.
    Judge(Vec<u32>, SyncSender<Verdict>),
}

/// The clients, from the conductor's side. They end with it.
#[derive(Debug)]
pub(crate) struct Crowd {
    orders: SyncSender<Order>,
    thread: JoinHandle<Result<()>>,
}

impl Crowd {
    /// Starts the thread, which connects them.
    pub(crate) fn start(plan: Arc<Plan>) -> Result<Self> {
        let (orders, incoming) = sync_channel(64);
        let thread = Builder::new()
            .name("clients".to_owned())
            .spawn(move || Clients::new(plan)?.run(&incoming))
            .context("a thread for clients")?;
        Ok(Self { orders, thread })
    }

    /// Waits until all are connected, or have failed.
    pub(crate) fn wait_until_connected(&self, clients: usize, deadline: Duration) -> Result<()> {
        wait_for("all clients to connect", deadline, || {
            let progress = self.progress()?;
            clock::pause(Duration::from_millis(20));
            Ok(progress.settled >= clients)
        })
    }

    pub(crate) fn progress(&self) -> Result<Progress> {
        self.ask(Order::Progress)
    }

    pub(crate) fn window(&self) -> Result<Window> {
        self.ask(Order::Window)
    }

    pub(crate) fn judge(&self, sent: &[u32]) -> Result<Verdict> {
        self.ask(|answer| Order::Judge(sent.to_vec(), answer))
    }

    /// Those that are to be amid something begin it.
    pub(crate) fn before_an_upgrade(&self) -> Result<()> {
        self.tell(Order::Stall)?;
        self.tell(Order::Begin)
    }

    /// They finish it, and laggards read on.
    pub(crate) fn after_an_upgrade(&self) -> Result<()> {
        self.tell(Order::Finish)?;
        self.tell(Order::ReadOn { everybody: false })
    }

    /// Everybody reads what there is.
    pub(crate) fn read_all(&self) -> Result<()> {
        self.tell(Order::ReadOn { everybody: true })
    }

    /// All leave.
    pub(crate) fn end(self) -> Result<()> {
        drop(self.orders);
        self.thread.join().expect("no client panics")
    }

    fn tell(&self, order: Order) -> Result<()> {
        self.orders.send(order).ok().context("the clients' thread has ended")
    }

    fn ask<T>(&self, order: impl FnOnce(SyncSender<T>) -> Order) -> Result<T> {
        let (answer, answers) = sync_channel(1);
        self.tell(order(answer))?;
        answers.recv_timeout(ANSWER_DEADLINE).context("the clients' thread does not answer")
    }
}

struct Clients {
    plan: Arc<Plan>,
    poll: Poll,
    connections: Vec<Connection>,
    books: Books,
    /// How often messages were begun: each time they are cut elsewhere.
    rounds: usize,
}

impl Clients {
    fn new(plan: Arc<Plan>) -> Result<Self> {
        Ok(Self {
            poll: Poll::new().context("an epoll set")?,
            connections: Vec::with_capacity(plan.clients),
            books: Books::new(&plan),
            plan,
            rounds: 0,
        })
    }

    fn run(mut self, orders: &Receiver<Order>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            match orders.try_recv() {
                Ok(order) => self.obey(order)?,
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
            self.connect_more();
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("waiting for events")?,
            }
            let registry = self.poll.registry();
            for event in &events {
                let Token(at) = event.token();
                let (client, at_end) = (&mut self.connections[at], event.is_read_closed());
                client.on_event(at, at_end, &mut buffer, registry, &mut self.books);
            }
        }
        for connection in &mut self.connections {
            connection.finish(&mut buffer);
        }
        Ok(())
    }

    fn connect_more(&mut self) {
        while self.connections.len() < self.plan.clients
            && self.connections.len() < self.books.progress().settled + CONNECTING_MAX
        {
            let at = self.connections.len();
            let connection = Connection::start(self.plan.opening(at), at, self.poll.registry());
            let connection = connection.unwrap_or_else(|error| {
                self.books.failed(&error);
                Connection::none()
            });
            self.connections.push(connection);
        }
    }

    fn obey(&mut self, order: Order) -> Result<()> {
        // An asker that has gone needs no answer.
        match order {
            Order::Progress(answer) => {
                let _ = answer.send(self.books.progress());
            }
            Order::Window(answer) => {
                let reading = self.connections.iter().map(Connection::is_reading);
                let _ = answer.send(self.books.window(reading));
            }
            Order::Judge(sent, answer) => {
                let reading = self.connections.iter().map(Connection::is_reading);
                let _ = answer.send(self.books.verdict(&sent, reading));
            }
            Order::Begin => {
                self.rounds += 1;
                self.say(|message, cut| message[..cut].to_vec());
            }
            Order::Finish => {
                self.say(|message, cut| message[cut..].to_vec());
                self.books.expect_pongs();
            }
            Order::Stall => {
                for at in self.plan.of(Role::Laggard) {
                    self.connections[at].stall(self.poll.registry()).context("stalling")?;
                }
            }
            Order::ReadOn { everybody } => {
                let roles = [Role::Laggard, Role::NonReader];
                for role in &roles[..if everybody { 2 } else { 1 }] {
                    for at in self.plan.of(*role) {
                        let registry = self.poll.registry();
                        self.connections[at].read_on(at, registry).context("reading on")?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Those that are amid a message send a part of it.
    fn say(&mut self, part: impl Fn(&[u8], usize) -> Vec<u8>) {
        for at in self.plan.of(Role::Half) {
            let message = own_message(at);
            // Anywhere: in the header, before the payload, in it, between two frames.
            let cut = 1 + (at + self.rounds) % (message.len() - 1);
            // One that is gone is counted elsewhere.
            let _ = self.connections[at].say(&part(&message, cut));
        }
    }
}

/// The message that a client has begun or finished: a ping of the subprotocol, in one frame or two.
fn own_message(at: usize) -> Vec<u8> {
    let text = br#"{"type":"ping"}"#;
    if at.is_multiple_of(2) {
        return client_frame(TEXT_WHOLE, text);
    }
    [client_frame(TEXT_FIRST, &text[..7]), client_frame(TEXT_LAST, &text[7..])].concat()
}
