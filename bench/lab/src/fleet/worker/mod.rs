//! A process of clients: connects them at a rate, reads and checks what they get, tells when asked.
//!
//! One thread, one epoll set, one read buffer; a client costs a descriptor and some two hundred
//! bytes. A line on standard input asks for progress or the whole account; its end, whatever the
//! reason, ends this process: no worker outlives its conductor.

mod books;

use std::{
    io::{BufRead as _, ErrorKind, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc::{Receiver, TryRecvError, sync_channel},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use mio::{Events, Poll, Token};
use testkit::{clock, http::upgrade_request};
use wsload::{
    connection::{Books as _, Connection, Opening},
    form::Form,
    target::CLIENTS_PER_SOURCE_MAX,
};

use self::books::Books;
pub(super) use self::books::{Account, Progress, SLOT_NS};
use super::args::WorkerArgs;

/// Connects under way: fewer than any listen queue holds.
const CONNECTING_MAX: usize = 128;
const EVENTS_PER_TURN: usize = 1024;
const READ_BUFFER_BYTES: usize = 64 * 1024;
const TURN_MAX: Duration = Duration::from_millis(5);
/// Descriptors besides the clients'.
const DESCRIPTORS_RESERVED: u64 = 32;
/// 127.1.0.0: an address of this machine that nobody else's clients use.
const SOURCES_FROM: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);

/// The conductor's questions.
#[derive(Clone, Copy, Debug)]
enum Question {
    Progress,
    Account,
}

/// Runs until standard input ends.
pub(crate) fn run(args: &WorkerArgs) -> Result<()> {
    let wanted = args.clients as u64 + DESCRIPTORS_RESERVED;
    let limit = rlimit::increase_nofile_limit(u64::MAX).context("raising the descriptor limit")?;
    ensure!(wanted <= limit, "{wanted} descriptors are needed, the limit is {limit}");
    let questions = read_questions()?;
    Crowd::new(args)?.run(&questions)
}

/// Another thread reads standard input, since that blocks.
fn read_questions() -> Result<Receiver<Question>> {
    let (ask, questions) = sync_channel(16);
    let read = move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let question = if line == "progress" { Question::Progress } else { Question::Account };
            if ask.send(question).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("stdin".to_owned()).spawn(read).context("a thread")?;
    Ok(questions)
}

struct Crowd {
    args: WorkerArgs,
    handshake: Vec<u8>,
    poll: Poll,
    clients: Vec<Connection>,
    books: Books,
    started_ns: u64,
}

impl Crowd {
    fn new(args: &WorkerArgs) -> Result<Self> {
        Ok(Self {
            args: args.clone(),
            handshake: upgrade_request(args.address, "/ws", "").into_bytes(),
            poll: Poll::new().context("an epoll set")?,
            clients: Vec::with_capacity(args.clients),
            books: Books::new(args.run, args.clients),
            started_ns: clock::now_ns(),
        })
    }

    fn run(mut self, questions: &Receiver<Question>) -> Result<()> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let answer = match questions.try_recv() {
                Ok(Question::Progress) => Some(serde_json::to_string(&self.books.progress())?),
                Ok(Question::Account) => Some(serde_json::to_string(self.books.account())?),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
            if let Some(answer) = answer
                && writeln!(std::io::stdout(), "{answer}").is_err()
            {
                // Nobody listens any more.
                return Ok(());
            }
            self.connect_more();
            match self.poll.poll(&mut events, Some(TURN_MAX)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.context("waiting for events")?,
            }
            let registry = self.poll.registry();
            for event in &events {
                let Token(at) = event.token();
                let (client, at_end) = (&mut self.clients[at], event.is_read_closed());
                client.on_event(at, at_end, &mut buffer, registry, &mut self.books);
            }
        }
    }

    /// As many as are due by the rate, and no more at a time than the server's queue holds.
    fn connect_more(&mut self) {
        let elapsed = clock::as_secs(clock::now_ns() - self.started_ns);
        let due = ((elapsed * self.args.connect_rate) as usize + 1).min(self.args.clients);
        while self.clients.len() < due && self.clients.len() < self.books.settled() + CONNECTING_MAX
        {
            let at = self.clients.len();
            let opening = Opening {
                address: self.args.address,
                source: Some(source(self.args.first_source, at)),
                tls: None,
                handshake: self.handshake.clone(),
                form: Form::Plain,
                compression: false,
                stalls: false,
                receive_buffer: None,
            };
            let client = Connection::start(opening, at, self.poll.registry());
            let client = client.unwrap_or_else(|error| {
                self.books.failed(&error);
                Connection::none()
            });
            self.clients.push(client);
        }
    }
}

fn source(first: u32, at: usize) -> SocketAddr {
    let host = u32::from(SOURCES_FROM) + first + (at / CLIENTS_PER_SOURCE_MAX) as u32;
    SocketAddr::from((Ipv4Addr::from(host), 0))
}

/// Source addresses that so many clients take.
pub(super) fn sources_of(clients: usize) -> u32 {
    clients.div_ceil(CLIENTS_PER_SOURCE_MAX) as u32
}
