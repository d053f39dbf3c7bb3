//! Connections that stop, go on here, or are let go: every request is answered exactly once.

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    time::timeout,
};

use super::{
    Fixture, IDLE_TIMEOUT, LOCAL, Server, handshake, header, read_answer, request, settle, status,
};

/// Nothing has come for the client.
fn is_silent(client: &mut DuplexStream) -> bool {
    client.read(&mut [0]).now_or_never().is_none()
}

fn live() -> String {
    request("GET /livez", &[], "")
}

fn publication(text: &str) -> String {
    request("POST /broadcast", &[], text)
}

impl Server {
    fn texts(&self) -> Vec<String> {
        let published = self.broker.published.borrow();
        published.iter().map(|(_, _, data)| String::from_utf8(data.to_vec()).unwrap()).collect()
    }
}

/// A connection stops wherever nothing is owed to its peer, keeps the bytes that it has, reads
/// none, and goes on with them: before any byte, amid its first head, between two requests, amid
/// the next head.
#[tokio::test(start_paused = true)]
async fn a_connection_stops_where_nothing_is_owed() {
    for (earlier, cut) in [(0, 0), (0, 1), (0, 9), (1, 0), (1, 1), (3, 30)] {
        let server = Fixture::new().start();
        let (serving, mut client) = server.connect(LOCAL);
        let asking = async {
            for _ in 0..earlier {
                client.write_all(live().as_bytes()).await.unwrap();
                assert_eq!(status(&read_answer(&mut client).await), 200);
            }
            let live = live();
            let (begin, rest) = live.split_at(cut);
            client.write_all(begin.as_bytes()).await.unwrap();
            settle().await;
            for _ in 0..2 {
                server.places.suspend();
                assert_eq!(server.places.under_way(), 1);
                server.places.stopped().await;
                assert_eq!(server.places.under_way(), 0);
                server.places.resume();
                settle().await;
                assert_eq!(server.places.under_way(), 1);
            }
            server.places.suspend();
            server.places.stopped().await;
            client.write_all(rest.as_bytes()).await.unwrap();
            settle().await;
            assert!(is_silent(&mut client), "after {cut} bytes it does not read on");
            server.places.resume();
            assert_eq!(status(&read_answer(&mut client).await), 200);
            settle().await;
            assert!(is_silent(&mut client));
            drop(client);
        };
        let (handed, ()) = tokio::join!(serving, asking);
        assert!(handed.is_none());
    }
}

/// A request under way comes to its end first, a body that is still coming, too; then the
/// connection stops, and nothing more of it is read.
#[tokio::test(start_paused = true)]
async fn a_request_under_way_comes_to_its_end() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        let request = publication("one message");
        let (begin, rest) = request.split_at(request.len() - 5);
        client.write_all(begin.as_bytes()).await.unwrap();
        settle().await;
        server.places.suspend();
        settle().await;
        assert_eq!(server.places.under_way(), 1, "its body is to come");
        client.write_all(rest.as_bytes()).await.unwrap();
        settle().await;
        assert_eq!(server.places.under_way(), 1, "it is at the broker");
        server.broker.gate.notify_one();
        server.places.stopped().await;
        assert_eq!(server.places.under_way(), 0);
        let answer = read_answer(&mut client).await;
        assert_eq!((status(&answer), &*header(&answer, "connection")), (202, "keep-alive"));
        client.write_all(live().as_bytes()).await.unwrap();
        settle().await;
        assert!(is_silent(&mut client));
        server.places.resume();
        assert_eq!(status(&read_answer(&mut client).await), 200);
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
    assert_eq!(server.texts(), ["one message"]);
}

/// Requests that came together with one that is under way are not begun, and not lost: neither
/// those that hyper has read already, nor the part of one.
#[tokio::test(start_paused = true)]
async fn pipelined_requests_are_not_begun_and_not_lost() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        let last = publication("the last");
        let (begin, rest) = last.split_at(25);
        let together = publication("first") + &publication("second") + &live() + begin;
        client.write_all(together.as_bytes()).await.unwrap();
        settle().await;
        server.places.suspend();
        server.broker.is_held.set(false);
        server.broker.gate.notify_one();
        server.places.stopped().await;
        assert_eq!(server.places.under_way(), 0);
        assert_eq!(status(&read_answer(&mut client).await), 202);
        assert!(is_silent(&mut client));
        assert_eq!(server.texts(), ["first"]);
        server.places.resume();
        for expected in [202, 200] {
            assert_eq!(status(&read_answer(&mut client).await), expected);
        }
        settle().await;
        assert!(is_silent(&mut client));
        client.write_all(rest.as_bytes()).await.unwrap();
        assert_eq!(status(&read_answer(&mut client).await), 202);
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
    assert_eq!(server.texts(), ["first", "second", "the last"]);
}

/// An answer that is a connection's last one ends it, though all others stop: it is under way until
/// the peer has taken it.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_to_end_does_not_stop() {
    let old = "GET /livez HTTP/1.0\r\n\r\n".to_owned();
    for asked in [old, request("GET /livez", &["Connection: close"], "")] {
        let server = Fixture::new().start();
        let (serving, mut client) = server.connect_through(LOCAL, 16);
        let asking = async {
            client.write_all(asked.as_bytes()).await.unwrap();
            settle().await;
            server.places.suspend();
            settle().await;
            assert_eq!(server.places.under_way(), 1);
            let mut answer = String::new();
            let ended = timeout(IDLE_TIMEOUT, client.read_to_string(&mut answer));
            assert!(ended.await.is_ok(), "it waits for the end");
            assert_eq!(status(&answer), 200);
        };
        tokio::join!(serving.map(drop), asking);
    }
}

/// A handshake whose 101 is not out yet is under way, and comes to its end.
#[tokio::test(start_paused = true)]
async fn a_handshake_under_way_comes_to_its_end() {
    let server = Fixture::new().start();
    server.admit_gate.0.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        client.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
        settle().await;
        server.places.suspend();
        settle().await;
        assert_eq!(server.places.under_way(), 1);
        server.admit_gate.1.notify_one();
        assert_eq!(status(&read_answer(&mut client).await), 101);
        client
    };
    let (handed, _client) = tokio::join!(serving, asking);
    assert!(handed.is_some());
    assert_eq!(server.places.under_way(), 0);
}

/// While a connection is stopped its time does not run out, and nobody dismisses it.
#[tokio::test(start_paused = true)]
async fn a_stopped_connection_is_not_dismissed() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        client.write_all(live().as_bytes()).await.unwrap();
        read_answer(&mut client).await;
        server.places.suspend();
        server.places.stopped().await;
        tokio::time::sleep(IDLE_TIMEOUT - IDLE_TIMEOUT / 10).await;
        assert!(!server.places.make_room());
        server.places.resume();
        client.write_all(live().as_bytes()).await.unwrap();
        assert_eq!(status(&read_answer(&mut client).await), 200);
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
}

/// Connections that no other process has end here, like in a drain: with the answer that they wait
/// for, or at once if they wait for none.
#[tokio::test(start_paused = true)]
async fn connections_that_are_left_end_with_their_answers() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (idle, mut idle_client) = server.connect(LOCAL);
    let (busy, mut busy_client) = server.connect(LOCAL);
    let (begun, mut begun_client) = server.connect(LOCAL);
    let asking = async {
        idle_client.write_all(live().as_bytes()).await.unwrap();
        read_answer(&mut idle_client).await;
        busy_client.write_all(publication("x").as_bytes()).await.unwrap();
        begun_client.write_all(&live().as_bytes()[..10]).await.unwrap();
        settle().await;
        server.places.suspend();
        settle().await;
        assert_eq!(server.places.under_way(), 1);
        server.places.let_go();
        assert_eq!(idle_client.read(&mut [0]).await.unwrap(), 0);
        server.broker.gate.notify_one();
        begun_client.write_all(&live().as_bytes()[10..]).await.unwrap();
        for (client, expected) in [(&mut busy_client, 202), (&mut begun_client, 200)] {
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.unwrap();
            assert_eq!((status(&answer), &*header(&answer, "connection")), (expected, "close"));
        }
    };
    tokio::join!(idle.map(drop), busy.map(drop), begun.map(drop), asking);
}
