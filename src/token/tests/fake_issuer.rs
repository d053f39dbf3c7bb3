//! An issuer on a free port of this machine, whose answers a test chooses.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::token::{JwksUrl, KeySetSource};

/// How the issuer answers.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// These bytes, and the end.
    Raw(Vec<u8>),
    /// A head that promises a body without end, which comes as fast as it is read.
    Endless,
    /// A byte of the head now and then, for ever.
    Drip,
    /// Not a byte.
    Silence,
}

impl Answer {
    /// 200 with this body.
    pub(super) fn json(body: &str) -> Self {
        Self::with("200 OK", "", body)
    }

    /// An answer with these header lines, each with its end.
    pub(super) fn with(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{headers}\r\n");
        Self::Raw((head + body).into_bytes())
    }
}

/// The issuer; it answers until the test ends.
pub(super) struct FakeIssuer {
    port: u16,
    state: Arc<State>,
}

struct State {
    answer: Mutex<Answer>,
    requests: AtomicU64,
    /// If not, requests wait.
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl FakeIssuer {
    pub(super) fn new(answer: Answer) -> Self {
        Self::with(answer, true)
    }

    /// One whose requests wait until it is opened.
    pub(super) fn gated(answer: Answer) -> Self {
        Self::with(answer, false)
    }

    fn with(answer: Answer, is_open: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State {
            answer: Mutex::new(answer),
            requests: AtomicU64::new(0),
            is_open: Mutex::new(is_open),
            opened: Condvar::new(),
        });
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { port, state }
    }

    pub(super) fn source(&self) -> KeySetSource {
        let url = format!("http://127.0.0.1:{}/jwks", self.port);
        KeySetSource::Url(JwksUrl::new(&url).unwrap())
    }

    pub(super) fn answer(&self, answer: Answer) {
        *self.state.answer.lock().unwrap() = answer;
    }

    pub(super) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Requests wait no longer.
    pub(super) fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
        self.state.opened.notify_all();
    }
}

impl State {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? > 0 {
            request.push(byte[0]);
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        drop(self.opened.wait_while(self.is_open.lock().unwrap(), |is_open| !*is_open).unwrap());
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Raw(bytes) => stream.write_all(&bytes),
            Answer::Endless => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")?;
                loop {
                    stream.write_all(&[b' '; 4096])?;
                }
            }
            Answer::Drip => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nX: ")?;
                loop {
                    stream.write_all(b"x")?;
                    thread::park_timeout(Duration::from_millis(20));
                }
            }
            Answer::Silence => stream.read_to_end(&mut request).map(drop),
        }
    }
}
