//! Something between a server and its clients that leads elsewhere when told to, and can be far
//! away: what a name that moves, an address with a proxy behind it, and a long line do.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::clock;

/// Passes on whatever it gets, each way so much later.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<String>,
    delay: Duration,
    bytes_per_second: usize,
    open: Mutex<Vec<TcpStream>>,
    /// Each connection, as its target sees it, and whether nothing gets through any more.
    stalled: Mutex<Vec<(SocketAddr, Arc<AtomicBool>)>>,
}

impl Proxy {
    /// New connections go to `target`.
    pub fn start(target: &str, delay: Duration) -> Self {
        Self::start_thin(target, delay, usize::MAX)
    }

    /// The same, but no more than so many bytes a second get to `target`; the rest waits.
    pub fn start_thin(target: &str, delay: Duration, bytes_per_second: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let state = Arc::new(State {
            target: Mutex::new(target.to_owned()),
            delay,
            bytes_per_second,
            open: Mutex::default(),
            stalled: Mutex::default(),
        });
        let proxy = Self { address: listener.local_addr().expect("it is bound"), state };
        let state = proxy.state.clone();
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let target = state.target.lock().expect("nobody panics").clone();
                let Ok(server) = TcpStream::connect(&*target) else { continue };
                state.connect(client, server);
            }
        });
        proxy
    }

    /// Host and port.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Ends the connections that stand.
    pub fn cut(&self) {
        for socket in self.state.open.lock().expect("nobody panics").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// From now on new connections go to `target`; those that stand are not touched.
    pub fn lead_to(&self, target: &str) {
        target.clone_into(&mut self.state.target.lock().expect("nobody panics"));
    }

    /// From now on nothing gets through on the connection that its target sees come from there.
    pub fn stall(&self, from: SocketAddr) {
        let stalled = self.state.stalled.lock().expect("nobody panics");
        let (_, is_stalled) =
            stalled.iter().find(|(address, _)| *address == from).expect("it is there");
        is_stalled.store(true, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl State {
    fn connect(&self, client: TcpStream, server: TcpStream) {
        let copy = |socket: &TcpStream| socket.try_clone().expect("descriptors are there");
        for socket in [&client, &server] {
            let _ = socket.set_nodelay(true);
            self.open.lock().expect("nobody panics").push(copy(socket));
        }
        let is_stalled = Arc::new(AtomicBool::new(false));
        let from = server.local_addr().expect("it is connected");
        self.stalled.lock().expect("nobody panics").push((from, is_stalled.clone()));
        let (delay, limit) = (self.delay, self.bytes_per_second);
        pass_on(copy(&client), copy(&server), delay, limit, is_stalled.clone());
        pass_on(server, client, delay, usize::MAX, is_stalled);
    }
}

/// Everything from one to the other, its end too.
fn pass_on(
    mut from: TcpStream,
    mut to: TcpStream,
    delay: Duration,
    bytes_per_second: usize,
    is_stalled: Arc<AtomicBool>,
) {
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Vec<u8>)>(4096);
    thread::spawn(move || {
        // Small pieces on a thin line: each takes its time.
        let mut buffer = vec![0; (bytes_per_second / 100).clamp(256, 64 * 1024)];
        loop {
            let count = from.read(&mut buffer).unwrap_or(0);
            if count > 0 && is_stalled.load(Ordering::SeqCst) {
                continue;
            }
            let due = clock::instant() + delay;
            if sender.send((due, buffer[..count].to_vec())).is_err() || count == 0 {
                return;
            }
        }
    });
    thread::spawn(move || {
        let mut free = clock::instant();
        for (due, bytes) in receiver {
            let due = due.max(free);
            free = due + Duration::from_secs_f64(bytes.len() as f64 / bytes_per_second as f64);
            while let Some(left) = due.checked_duration_since(clock::instant())
                && !left.is_zero()
            {
                thread::park_timeout(left);
            }
            if bytes.is_empty() || to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
