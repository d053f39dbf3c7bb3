//! Servers in memory, for tests on a paused clock: the connections of a test's thread lead to them
//! in place of sockets, whose bytes would take time that the clock does not count.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    rc::Rc,
};

use bytes::BytesMut;
use fred::prelude::Server;
use redis_protocol::resp3::{decode::complete::decode_bytes_mut, types::BytesFrame};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::Notify,
    task::spawn_local,
};

/// More than any test leaves unread.
const PIPE_BYTES: usize = 1 << 20;

type Servers = HashMap<String, Rc<MemoryServer>>;

thread_local! {
    static SERVERS: RefCell<Option<Servers>> = const { RefCell::new(None) };
}

/// While it lives, connections of this thread lead into memory.
#[derive(Debug)]
pub(crate) struct MemoryNetwork(());

impl MemoryNetwork {
    pub(crate) fn new() -> Self {
        SERVERS.set(Some(HashMap::new()));
        Self(())
    }

    /// From now on `address` (`HOST:PORT`) leads to a new server, which answers as told.
    pub(crate) fn listen(
        &self,
        address: &str,
        answer: impl Fn(&[&str]) -> String + 'static,
    ) -> Rc<MemoryServer> {
        let server = Rc::new(MemoryServer {
            answer: Box::new(answer),
            is_silent: Cell::new(false),
            opened: Cell::new(0),
            connections: RefCell::default(),
        });
        SERVERS.with_borrow_mut(|servers| {
            servers.as_mut().unwrap().insert(address.to_owned(), server.clone())
        });
        server
    }
}

impl Drop for MemoryNetwork {
    fn drop(&mut self) {
        SERVERS.set(None);
    }
}

/// A connection to `server`; None where connections lead out.
pub(super) fn connect(server: &Server) -> Option<io::Result<DuplexStream>> {
    SERVERS.with_borrow(|servers| {
        let there = servers.as_ref()?.get(&server.to_string()).cloned();
        Some(there.map(MemoryServer::accept).ok_or_else(|| io::ErrorKind::ConnectionRefused.into()))
    })
}

/// Makes a command's answer, as it goes over the line.
type Answer = Box<dyn Fn(&[&str]) -> String>;

/// A server that has subscriptions; all else is answered by a function.
pub(crate) struct MemoryServer {
    answer: Answer,
    is_silent: Cell<bool>,
    opened: Cell<usize>,
    connections: RefCell<Vec<Rc<Pending>>>,
}

/// The subscriptions of one connection, and the bytes to be written to it.
#[derive(Default)]
struct Pending {
    channels: RefCell<Vec<String>>,
    output: RefCell<BytesMut>,
    changed: Notify,
}

impl MemoryServer {
    /// How many connections were made.
    pub(crate) fn opened(&self) -> usize {
        self.opened.get()
    }

    /// How many there are.
    pub(crate) fn connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// A silent server takes connections and bytes, and does nothing with them before its return.
    pub(crate) fn set_silent(&self, is_silent: bool) {
        self.is_silent.set(is_silent);
        self.connections.borrow().iter().for_each(|connection| connection.changed.notify_one());
    }

    /// Publishes; how many hear it.
    pub(crate) fn publish(&self, channel: &str, payload: &str) -> usize {
        let connections = self.connections.borrow();
        let hears = |it: &&Rc<Pending>| it.channels.borrow().iter().any(|known| known == channel);
        let hearers = connections.iter().filter(hears);
        let push = format!(">3\r\n{}{}{}", text("message"), text(channel), text(payload));
        hearers.map(|connection| connection.put(&push)).count()
    }

    fn accept(self: Rc<Self>) -> DuplexStream {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.opened.set(self.opened.get() + 1);
        spawn_local(self.serve(ours));
        theirs
    }

    async fn serve(self: Rc<Self>, mut stream: DuplexStream) {
        let connection = Rc::new(Pending::default());
        self.connections.borrow_mut().push(connection.clone());
        let mut input = BytesMut::new();
        loop {
            if !self.is_silent.get() {
                while let Some((frame, _, _)) = decode_bytes_mut(&mut input).unwrap() {
                    self.take(&connection, &words(frame));
                }
                let output = connection.output.borrow_mut().split();
                if stream.write_all(&output).await.is_err() {
                    break;
                }
            }
            tokio::select! {
                read = stream.read_buf(&mut input) => if !matches!(read, Ok(1..)) { break },
                () = connection.changed.notified() => {}
            }
        }
        self.connections.borrow_mut().retain(|it| !Rc::ptr_eq(it, &connection));
    }

    fn take(&self, connection: &Pending, words: &[String]) {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = match *words {
            ["HELLO", ..] => "%1\r\n+server\r\n+redis\r\n".to_owned(),
            ["PUBLISH", channel, payload] => format!(":{}\r\n", self.publish(channel, payload)),
            ["SUBSCRIBE", ref channels @ ..] => {
                let own = channels.iter().map(|&channel| channel.to_owned());
                connection.channels.borrow_mut().extend(own);
                let pushed = channels
                    .iter()
                    .map(|channel| format!(">3\r\n{}{}:1\r\n", text("subscribe"), text(channel)));
                pushed.collect()
            }
            _ => (self.answer)(&words),
        };
        connection.put(&answer);
    }
}

impl Pending {
    fn put(&self, answer: &str) {
        self.output.borrow_mut().extend_from_slice(answer.as_bytes());
        self.changed.notify_one();
    }
}

/// A text as Redis writes it.
pub(crate) fn text(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A list of texts.
pub(crate) fn texts(texts: &[&str]) -> String {
    let parts: String = texts.iter().map(|part| text(part)).collect();
    format!("*{}\r\n{parts}", texts.len())
}

fn words(frame: BytesFrame) -> Vec<String> {
    let data = match frame {
        BytesFrame::Array { data, .. } => data,
        BytesFrame::Hello { .. } => return vec!["HELLO".to_owned()],
        other => panic!("{other:?} is no command"),
    };
    let word = |frame| match frame {
        BytesFrame::BlobString { data, .. } => String::from_utf8_lossy(&data).into_owned(),
        other => panic!("{other:?} is no word"),
    };
    data.into_iter().map(word).collect()
}
