//! The origin of the browser's page: it serves the page itself, and passes on everything else to a
//! server, as a proxy does, with all that may happen to a proxy's connections.
//!
//! So the page and the server are of one origin, the server may be another one from now on, and
//! connections can be cut, refused or left dead, whatever the browser does.

use std::{
    collections::VecDeque,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::support::{
    PATIENCE,
    http::{Arrival, Http},
    now,
};

const PAGE: &str = include_str!("page.html");

/// How long the page's question for an order stays open.
const ORDER_WAIT: Duration = Duration::from_secs(5);

/// The origin; what it shares with its connections.
#[derive(Clone)]
pub(crate) struct Stage {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: Mutex<SocketAddr>,
    refuses_upgrades: AtomicBool,
    links: Mutex<Vec<TcpStream>>,
    /// Links with a smaller number swallow what they should pass on.
    first_alive: AtomicUsize,
    next_link: AtomicUsize,
    news: (Mutex<Vec<Value>>, Condvar),
    orders: (Mutex<VecDeque<String>>, Condvar),
}

impl Stage {
    /// Serves the page, and passes on to the server at `target`.
    pub(crate) fn before(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let addr = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            refuses_upgrades: AtomicBool::new(false),
            links: Mutex::default(),
            first_alive: AtomicUsize::new(0),
            next_link: AtomicUsize::new(0),
            news: Default::default(),
            orders: Default::default(),
        });
        let stage = Self { addr, shared };
        let accepting = stage.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let stage = accepting.clone();
                thread::spawn(move || stage.serve(stream));
            }
        });
        stage
    }

    /// The address of the page.
    pub(crate) fn page(&self) -> String {
        format!("http://{}/stage/page", self.addr)
    }

    /// From now on passes on to another server.
    pub(crate) fn set_target(&self, target: SocketAddr) {
        *self.shared.target.lock().unwrap() = target;
    }

    /// From now on answers handshakes with 400, as a proxy does that knows no WebSockets.
    pub(crate) fn refuse_upgrades(&self) {
        self.shared.refuses_upgrades.store(true, Ordering::SeqCst);
    }

    /// Cuts all connections to the server.
    pub(crate) fn cut(&self) {
        for stream in self.shared.links.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Nothing comes through the connections that there are, and nobody is told.
    pub(crate) fn let_links_die(&self) {
        let next = self.shared.next_link.load(Ordering::SeqCst);
        self.shared.first_alive.store(next, Ordering::SeqCst);
    }

    /// Gives the page something to do.
    pub(crate) fn order(&self, script: &str) {
        let (orders, changed) = &self.shared.orders;
        orders.lock().unwrap().push_back(script.to_owned());
        changed.notify_all();
    }

    /// Waits until `find` finds something in the page's news so far.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, find: impl Fn(&[Value]) -> Option<T>) -> T {
        let (news, changed) = &self.shared.news;
        let start = now();
        let mut news = news.lock().unwrap();
        loop {
            if let Some(found) = find(&news) {
                return found;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            let is_wrong = news.iter().any(|one| one["kind"] == "error");
            if left.is_zero() || is_wrong {
                let told: String = news.iter().map(|one| format!("{one}\n")).collect();
                // The page's thread must not find a poisoned lock.
                drop(news);
                panic!("{what}: not with what the page tells:\n{told}");
            }
            news = changed.wait_timeout(news, left).unwrap().0;
        }
    }

    fn serve(&self, stream: TcpStream) {
        let mut http = Http::over(stream);
        let Some(head) = take(&mut http, |http| http.inbox.take_through(b"\r\n\r\n")) else {
            return;
        };
        let head = String::from_utf8(head).expect("a browser's head is text");
        match head.split(' ').nth(1).expect("a request has a target") {
            "/stage/page" => answer(&mut http, "200 OK", PAGE),
            "/stage/news" => {
                let length = header(&head, "content-length").parse().expect("a body has a length");
                let Some(body) = take(&mut http, |http| http.inbox.take(length)) else { return };
                let told: Vec<Value> = serde_json::from_slice(&body).expect("news are JSON");
                let (news, changed) = &self.shared.news;
                news.lock().unwrap().extend(told);
                changed.notify_all();
                answer(&mut http, "204 No Content", "");
            }
            "/stage/order" => {
                let (orders, changed) = &self.shared.orders;
                let none = |orders: &mut VecDeque<String>| orders.is_empty();
                let orders = orders.lock().unwrap();
                let (mut orders, _) = changed.wait_timeout_while(orders, ORDER_WAIT, none).unwrap();
                match orders.pop_front() {
                    Some(order) => answer(&mut http, "200 OK", &order),
                    None => answer(&mut http, "204 No Content", ""),
                }
            }
            _ => self.pass_on(http, &head),
        }
    }

    fn pass_on(&self, mut http: Http, head: &str) {
        let is_upgrade = !header(head, "upgrade").is_empty();
        if is_upgrade && self.shared.refuses_upgrades.load(Ordering::SeqCst) {
            return answer(&mut http, "400 Bad Request", "");
        }
        let target = *self.shared.target.lock().unwrap();
        // A connection that finds no server there is cut off.
        let Ok(mut server) = TcpStream::connect(target) else { return };
        // Each request comes on a connection of its own, so that one may be for the page's own.
        let head = head.replace("Connection: keep-alive", "Connection: close");
        let rest = http.inbox.rest().to_vec();
        let sent = server.write_all(head.as_bytes()).and_then(|()| server.write_all(&rest));
        if sent.is_err() {
            return;
        }
        let number = self.shared.next_link.fetch_add(1, Ordering::SeqCst);
        let _ = http.stream.set_read_timeout(None);
        let copy = |stream: &TcpStream| stream.try_clone().expect("descriptors are left");
        let (client, server_too) = (copy(&http.stream), copy(&server));
        self.shared.links.lock().unwrap().extend([copy(&client), copy(&server)]);
        let stage = self.clone();
        thread::spawn(move || stage.pump(number, server_too, client));
        self.pump(number, http.stream, server);
    }

    fn pump(&self, number: usize, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let is_alive = number >= self.shared.first_alive.load(Ordering::SeqCst);
            if is_alive && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        if number >= self.shared.first_alive.load(Ordering::SeqCst) {
            let _ = to.shutdown(Shutdown::Both);
        }
    }
}

/// Reads until `taken` takes something; `None` at the end of the connection.
fn take(http: &mut Http, taken: impl Fn(&mut Http) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    loop {
        if let Some(bytes) = taken(http) {
            return Some(bytes);
        }
        if http.arrival(PATIENCE) != Arrival::Bytes {
            return None;
        }
    }
}

fn answer(http: &mut Http, status: &str, body: &str) {
    let length = body.len();
    http.try_send(format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n\
         Cache-Control: no-store\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ));
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
}
