//! A client of server-sent events over a blocking socket, read by the rules of the HTML standard.
//!
//! Written apart from the server's own writer. It does not reconnect by itself; what a browser
//! would send then is [`Events::last_id`].

use std::net::SocketAddr;

use super::{
    PATIENCE,
    http::{Arrival, Http, Response},
    now,
};

/// A block of lines up to an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Block {
    pub(crate) id: Option<String>,
    /// Empty: a message.
    pub(crate) event: String,
    /// The lines of its data; none: a browser makes no event of it.
    pub(crate) data: Option<String>,
    pub(crate) retry_ms: Option<u64>,
    pub(crate) comments: usize,
}

/// One thing that comes in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Block(Block),
    Eof,
    Reset,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Events {
    pub(crate) http: Http,
    pub(crate) head: Response,
    /// The id that a browser would go on from.
    pub(crate) last_id: Option<String>,
    /// The time that a browser would wait before it goes on.
    pub(crate) retry_ms: Option<u64>,
}

/// A request for a stream; `headers` are whole lines.
pub(crate) fn stream_request(addr: SocketAddr, target: &str, headers: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: {addr}\r\nAccept: text/event-stream\r\n{headers}\r\n")
}

impl Events {
    /// A stream of `target`, such as `/sse?channel=a`.
    #[track_caller]
    pub(crate) fn open(addr: SocketAddr, target: &str) -> Self {
        Self::open_with(Http::connect(addr), addr, target, "")
    }

    /// A stream that goes on after `last_id`.
    #[track_caller]
    pub(crate) fn resume(addr: SocketAddr, target: &str, last_id: &str) -> Self {
        let header = format!("Last-Event-ID: {last_id}\r\n");
        Self::open_with(Http::connect(addr), addr, target, &header)
    }

    /// A stream over a connection made by the test.
    #[track_caller]
    pub(crate) fn open_with(mut http: Http, addr: SocketAddr, target: &str, headers: &str) -> Self {
        http.send(stream_request(addr, target, headers));
        Self::begun(http)
    }

    /// A stream on a connection on which its request was sent.
    #[track_caller]
    pub(crate) fn begun(mut http: Http) -> Self {
        let head = http.try_head().expect("an answer before the end of the connection");
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(head.header("content-type"), Some("text/event-stream"), "{head:?}");
        Self { http, head, last_id: None, retry_ms: None }
    }

    /// The next arrival.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Next {
        let start = now();
        loop {
            if let Some(block) = self.http.inbox.take_through(b"\n\n") {
                let block = parse(&block);
                if let Some(id) = &block.id {
                    self.last_id = Some(id.clone());
                }
                self.retry_ms = block.retry_ms.or(self.retry_ms);
                return Next::Block(block);
            }
            assert!(start.elapsed() < PATIENCE, "nothing within {PATIENCE:?}");
            match self.http.arrival(PATIENCE) {
                Arrival::Bytes | Arrival::Nothing => {}
                Arrival::Eof => {
                    let rest = self.http.inbox.rest();
                    assert!(rest.is_empty(), "the stream ends inside an event: {rest:?}");
                    return Next::Eof;
                }
                Arrival::Reset => return Next::Reset,
            }
        }
    }

    /// The next block of any kind.
    #[track_caller]
    pub(crate) fn block(&mut self) -> Block {
        match self.next() {
            Next::Block(block) => block,
            end => panic!("a block, not {end:?}"),
        }
    }

    /// The next that a browser makes an event of.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Block {
        loop {
            let block = self.block();
            if block.data.is_some() {
                return block;
            }
        }
    }

    /// The data of the next event, which is a message.
    #[track_caller]
    pub(crate) fn text(&mut self) -> String {
        let event = self.event();
        assert_eq!(event.event, "", "a message: {event:?}");
        event.data.unwrap_or_default()
    }

    /// The blocks up to the end, which is in good order.
    #[track_caller]
    pub(crate) fn blocks_until_end(&mut self) -> Vec<Block> {
        let mut blocks = Vec::new();
        loop {
            match self.next() {
                Next::Block(block) => blocks.push(block),
                Next::Eof => return blocks,
                Next::Reset => panic!("reset after {blocks:?}"),
            }
        }
    }
}

fn parse(block: &[u8]) -> Block {
    let text = std::str::from_utf8(block).expect("an event stream is UTF-8");
    assert!(!text.contains('\r'), "no line ends in a carriage return here: {text:?}");
    let mut parsed = Block::default();
    for line in text.trim_end_matches('\n').split('\n') {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" => parsed.comments += 1,
            "id" => parsed.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut parsed.event),
            "retry" => parsed.retry_ms = Some(value.parse().expect("retry is a number")),
            "data" => match &mut parsed.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                none => *none = Some(value.to_owned()),
            },
            other => panic!("a field that no browser knows: {other:?} in {text:?}"),
        }
    }
    parsed
}
