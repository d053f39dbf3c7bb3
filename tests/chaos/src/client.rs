//! The clients: each keeps its channels whatever happens, and has all it gets judged.
//!
//! A client that is cut goes to any server that lives and resumes from its position, partly in
//! the handshake, partly by `subscribe`. It keeps what the protocol asks of a good client
//! (`reconnect_after_ms`), and leaves by itself now and then. All run on one thread.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use anyhow::{Context as _, Result};
use fastrand::Rng;
use futures_util::{SinkExt as _, StreamExt as _};
use testkit::clock;
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error, Message,
        client::IntoClientRequest as _,
        http::HeaderValue,
        protocol::{WebSocketConfig, frame::coding::CloseCode},
    },
};

use super::{
    frame::{Frame, PROTOCOL, Position, path, read_payload, subscribe},
    held::{Held, held},
    judge::{Fault, Place, Told},
    shared::{Shared, channel_name},
};

/// For connect and handshake.
const OPEN_DEADLINE: Duration = Duration::from_secs(5);
/// Before the next attempt, at most; a server that says how long is obeyed, within reason.
const RETRY_MS_MAX: u64 = 250;
const OBEYED_MS_MAX: u64 = 5_000;
/// Clients that are asked to move do so within this time.
const MOVE_MS_MAX: u64 = 500;
/// Between the starts of clients at the beginning.
const START_INTERVAL: Duration = Duration::from_micros(500);
/// A client reads little: two thousand buffers of the default size would be 256 MiB.
const READ_BUFFER_BYTES: usize = 4096;

type Socket = WebSocketStream<TcpStream>;

/// From the conductor to all clients.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Order {
    #[default]
    Stay,
    /// As many as make an even share go to this server.
    Fill(usize),
    Stop,
}

/// How a session ended.
#[derive(Debug)]
enum End {
    Stop,
    /// A word for the table, and how long to wait.
    Cut(String, u64),
}

struct Client {
    shared: Arc<Shared>,
    index: usize,
    held: Vec<Held>,
    orders: watch::Receiver<Order>,
    random: Rng,
    /// The server to go to next, if it matters.
    wanted: Option<usize>,
    /// The mean time until it leaves by itself.
    stay: Duration,
    reconnect_after_ms: Option<u64>,
}

/// Runs all clients until they are told to stop; what they hold is then to be judged.
pub(super) fn run(
    shared: &Arc<Shared>,
    clients: usize,
    churn: usize,
    seed: u64,
    orders: &watch::Receiver<Order>,
) -> Result<Vec<Held>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let stay = Duration::from_secs_f64(clients as f64 / churn.max(1) as f64);
    let stay = if churn == 0 { Duration::from_secs(100_000) } else { stay };
    let all = async {
        let mut tasks = JoinSet::new();
        for index in 0..clients {
            let client = Client {
                shared: Arc::clone(shared),
                index,
                held: channels_of(index, shared.channels()).map(Held::new).collect(),
                orders: orders.clone(),
                random: Rng::with_seed(seed.wrapping_add(index as u64)),
                wanted: Some(index % shared.doors.len()),
                stay,
                reconnect_after_ms: None,
            };
            tasks.spawn_local(client.live());
            sleep(START_INTERVAL).await;
        }
        let mut held = Vec::new();
        while let Some(one) = tasks.join_next().await {
            held.extend(one.context("a client")?);
        }
        Ok(held)
    };
    let local = tokio::task::LocalSet::new();
    runtime.context("the clients' runtime")?.block_on(local.run_until(all))
}

/// One channel; every tenth client has three.
pub(super) fn channels_of(index: usize, channels: usize) -> impl Iterator<Item = usize> {
    let count = if index.is_multiple_of(10) { channels.min(3) } else { 1 };
    // Neighbours on different channels, and each channel's clients on different servers.
    (0..count).map(move |more| (index / 3 + 7 * index + more) % channels)
}

impl Client {
    async fn live(mut self) -> Vec<Held> {
        loop {
            let server = self.choose();
            let end = match server {
                Some(server) => self.session(server).await,
                None => End::Cut("no server".to_owned(), 0),
            };
            self.held.iter_mut().for_each(|held| held.leave(&self.shared));
            match end {
                End::Stop => return self.held,
                End::Cut(word, wait_ms) => {
                    self.shared.ended(&word);
                    let wait_ms = wait_ms + self.random.u64(0..RETRY_MS_MAX);
                    sleep(Duration::from_millis(wait_ms)).await;
                }
            }
        }
    }

    /// The server that it was told to go to, or any.
    fn choose(&mut self) -> Option<usize> {
        let is_up = |server: &usize| self.shared.doors[*server].is_up.load(Relaxed);
        let up: Vec<usize> = (0..self.shared.doors.len()).filter(is_up).collect();
        self.wanted.take().filter(|wanted| up.contains(wanted)).or_else(|| self.random.choice(up))
    }

    async fn session(&mut self, server: usize) -> End {
        let opened = timeout(OPEN_DEADLINE, self.open(server)).await;
        let mut socket = match opened {
            Ok(Ok(socket)) => socket,
            Ok(Err(Error::Http(answer))) => {
                return End::Cut(format!("handshake {}", answer.status().as_u16()), 0);
            }
            Ok(Err(Error::Io(error))) => return End::Cut(format!("connect {}", error.kind()), 0),
            Ok(Err(error)) => return End::Cut(format!("handshake: {error}"), 0),
            Err(_) => return End::Cut("handshake timed out".to_owned(), 0),
        };
        self.shared.opened.fetch_add(1, Relaxed);
        let stay_ms = (2.0 * self.random.f64() * self.stay.as_secs_f64() * 1000.0) as u64;
        let mut leave_at = after_ms(stay_ms);
        let end = loop {
            tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if let Some(word) = self.frame(server, &text, &mut socket).await {
                            break End::Cut(word, 0);
                        }
                    }
                    other => match self.ended(other) {
                        Some(end) => break end,
                        None => continue,
                    },
                },
                () = sleep_until(leave_at) => {
                    // Half of those who leave say so.
                    if self.random.bool() {
                        let _ = timeout(OPEN_DEADLINE, socket.close(None)).await;
                    }
                    break End::Cut("left by itself".to_owned(), 0);
                }
                changed = self.orders.changed() => {
                    let order = *self.orders.borrow_and_update();
                    match order {
                        Order::Stay => {}
                        Order::Fill(other) => {
                            let share = self.random.usize(0..self.shared.doors.len()) == 0;
                            if share && other != server {
                                self.wanted = Some(other);
                                let wait_ms = self.random.u64(0..MOVE_MS_MAX);
                                leave_at = after_ms(wait_ms);
                            }
                        }
                        Order::Stop => break End::Stop,
                    }
                    if changed.is_err() {
                        break End::Stop;
                    }
                }
            }
        };
        self.shared.opened.fetch_sub(1, Relaxed);
        end
    }

    async fn open(&mut self, server: usize) -> Result<Socket, Error> {
        let address = self.shared.doors[server].address;
        let by_frame = self.by_frame();
        let named: Vec<_> = self.held.iter().take(self.held.len() - by_frame).collect();
        let named: Vec<_> = named.iter().map(|held| (held.channel, held.since.clone())).collect();
        let mut request = format!("ws://{address}{}", path(&named)).into_client_request()?;
        let protocol = HeaderValue::from_static(PROTOCOL);
        request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
        Ok(client_async_with_config(request, stream, Some(config)).await?.0)
    }

    /// How many of its channels it asks for once it is connected: all but the first, or none.
    fn by_frame(&self) -> usize {
        if self.index.is_multiple_of(20) { self.held.len() - 1 } else { 0 }
    }

    /// How it ended, unless the message is none that ends.
    fn ended(&mut self, message: Option<Result<Message, Error>>) -> Option<End> {
        let (word, wait_ms) = match message {
            Some(Ok(Message::Close(frame))) => {
                let code = frame.as_ref().map_or(1005, |frame| u16::from(frame.code));
                let is_drain = frame.is_some_and(|frame| frame.code == CloseCode::Restart);
                let wait_ms = if is_drain { self.reconnect_after_ms.take() } else { None };
                if is_drain && wait_ms.is_none() {
                    self.shared.remark(|| "1012 without a drain frame before it".to_owned());
                }
                (format!("close {code}"), wait_ms.unwrap_or(0).min(OBEYED_MS_MAX))
            }
            Some(Ok(_)) => return None,
            Some(Err(Error::Io(error))) => (format!("cut: {}", error.kind()), 0),
            Some(Err(error)) => (format!("cut: {error}"), 0),
            None => ("cut: end of stream".to_owned(), 0),
        };
        Some(End::Cut(word, wait_ms))
    }

    /// Takes a frame; a word if the session cannot go on.
    async fn frame(&mut self, server: usize, text: &str, socket: &mut Socket) -> Option<String> {
        let frame = match Frame::parse(text) {
            Ok(frame) => frame,
            Err(error) => {
                self.shared.remark(|| format!("server {server}: unreadable: {error}"));
                return Some("unreadable frame".to_owned());
            }
        };
        match frame.kind.as_ref() {
            "message" => self.message(server, &frame),
            "gap" => self.gap(&frame),
            "hello" => {
                let positions = frame.positions.unwrap_or_default();
                for (name, position) in positions {
                    self.subscribed(server, name, position);
                }
                let first = self.held.len() - self.by_frame();
                for held in &self.held[first..] {
                    let ask = subscribe(held.channel, held.since.as_deref());
                    if socket.send(Message::text(ask)).await.is_err() {
                        return Some("cut: while subscribing".to_owned());
                    }
                }
            }
            "subscribed" => {
                self.subscribed(server, frame.channel.unwrap_or_default(), frame.position());
            }
            "drain" => self.reconnect_after_ms = frame.reconnect_after_ms,
            "error" => {
                let code = frame.code.unwrap_or("without a code");
                return Some(format!("error {code}"));
            }
            _ => {}
        }
        None
    }

    fn subscribed(&mut self, server: usize, channel: &str, position: Option<Position<'_>>) {
        let Some(held) = held(&mut self.held, Some(channel)) else { return };
        held.leave(&self.shared);
        self.shared.watch(server, held.channel, true);
        held.watching = Some(server);
        if let Some(position) = position {
            let epoch = held.epoch(&self.shared, position.epoch);
            let place = Place { epoch, offset: position.offset };
            held.track.start(place);
            held.note(place);
        } else if held.track.position().is_none() {
            self.shared.remark(|| format!("{channel} at server {server} has no position"));
        }
    }

    fn message(&mut self, server: usize, frame: &Frame<'_>) {
        let Some(held) = held(&mut self.held, frame.channel) else { return };
        let Some((number, is_last)) = frame.data.and_then(read_payload) else {
            self.shared.remark(|| format!("server {server}: a foreign message"));
            return;
        };
        let phase = self.shared.phase();
        let Some(position) = frame.position() else {
            held.track.local(phase);
            return;
        };
        let place =
            Place { epoch: held.epoch(&self.shared, position.epoch), offset: position.offset };
        self.shared.delivered(server, held.channel, number);
        if is_last && !held.is_finished {
            held.is_finished = true;
            self.shared.finished.fetch_add(1, Relaxed);
        }
        let before = held.track.position();
        let fault = held.track.message(phase, place, number);
        held.note(place);
        if let Some(fault) = fault {
            let what = match fault {
                Fault::Repeated => "repeated".to_owned(),
                Fault::Reordered => "reordered".to_owned(),
                Fault::Hole(offsets) => format!("a hole of {offsets}"),
            };
            self.shared.remark(|| {
                format!(
                    "{} at server {server}: {what}: {}:{} (number {number}) after {}",
                    channel_name(held.channel),
                    position.epoch,
                    position.offset,
                    before.map(|place| self.shared.show(place)).unwrap_or_default()
                )
            });
        }
    }

    fn gap(&mut self, frame: &Frame<'_>) {
        let Some(held) = held(&mut self.held, frame.channel) else { return };
        let epoch = frame.epoch.map(|name| self.shared.epoch(name));
        let told = Told { epoch, from: frame.from.unwrap_or(0), to: frame.to };
        held.track.gap(self.shared.phase(), told);
    }
}

/// The moment after so many milliseconds.
fn after_ms(ms: u64) -> Instant {
    Instant::from_std(clock::instant()) + Duration::from_millis(ms)
}
