//! The memory that requests make the server hold, from outside: within the budget, and returned.

use std::{cell::Cell, rc::Rc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
    time::timeout,
};

use super::{Fixture, LOCAL, body, header, read_answer, request, settle, status};
use crate::{
    clock::Clock,
    http::{connection::places::Stage, serve, sources::Text},
    limits::{
        BATCH_WINDOW_MIN, HTTP_HEAD_BYTES_MAX, HTTP_MEMORY_WAIT, HTTP_MUCH_WORK_BYTES_MAX,
        HTTP_WORK_BYTES_MAX,
    },
};

/// For what must happen at once, on however busy a machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest size of one connection's buffers.
const BUFFERS: usize = HTTP_HEAD_BYTES_MAX;

fn batch(lines: usize) -> String {
    let lines = "{\"data\":0}\n".repeat(lines);
    request("POST /broadcast", &["Content-Type: application/x-ndjson"], &lines)
}

/// An answer to a batch is held within the budget until it is taken.
#[tokio::test(start_paused = true)]
async fn an_answer_to_a_batch_stays_within_the_budget() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect_through(LOCAL, 64);
    let asking = async {
        client.write_all(batch(1000).as_bytes()).await.unwrap();
        settle().await;
        let held = server.places.held();
        let answer = read_answer(&mut client).await;
        settle().await;
        assert_eq!(status(&answer), 202);
        assert_eq!(body(&answer)["results"].as_array().unwrap().len(), 1000);
        let length = header(&answer, "content-length").parse::<usize>().unwrap();
        assert!((length..length + BUFFERS).contains(&held), "{held} for {length} bytes");
        assert!(server.places.held() < BUFFERS);
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
}

/// A batch waits for room, and is told to come again if there is none in time.
#[tokio::test(start_paused = true)]
async fn a_batch_waits_for_room_for_a_bounded_time() {
    let server = Fixture::new().start();
    let other = server.places.enter();
    other.standing().enter(Stage::Busy);
    let mut held = other.standing().charge();
    assert!(held.wait_for(HTTP_MUCH_WORK_BYTES_MAX - 1).await);
    let began = Clock::start().instant();
    let answer = server.ask(batch(300)).await;
    assert_eq!((status(&answer), header(&answer, "retry-after").as_str()), (503, "1"));
    assert_eq!(body(&answer)["error"], "shard_stalled");
    assert_eq!(began.elapsed(), HTTP_MEMORY_WAIT);
    assert!(server.broker.published.borrow().is_empty());
    assert_eq!(status(&server.ask(batch(10)).await), 202, "a short one needs no such room");
    assert_eq!(status(&server.ask(request("POST /broadcast", &[], "x")).await), 202);
    let free = async {
        settle().await;
        held.shrink_to(0);
    };
    let (answer, ()) = tokio::join!(server.ask(batch(300)), free);
    assert_eq!(status(&answer), 202);
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_which_there_is_no_room_is_a_503() {
    let server = Fixture::with(|context| {
        context.ops.metrics_text = Text::new(Clock::start(), || "m".repeat(50_000));
    })
    .start();
    let other = server.places.enter();
    other.standing().enter(Stage::Busy);
    let mut held = other.standing().charge();
    assert!(held.add_answer(HTTP_WORK_BYTES_MAX));
    let answer = server.ask(request("GET /metrics", &[], "")).await;
    assert_eq!((status(&answer), header(&answer, "retry-after").as_str()), (503, "1"));
    drop(held);
    assert_eq!(status(&server.ask(request("GET /metrics", &[], "")).await), 200);
}

/// A connection has one answer at a time however many it asks for.
#[tokio::test]
async fn a_connection_has_one_answer_at_a_time() {
    let made = Rc::new(Cell::new(0));
    let count = made.clone();
    let server = Fixture::with(|context| {
        context.ops.stats_json = Text::new(Clock::start(), move || {
            count.set(count.get() + 1);
            "{}".into()
        });
    })
    .start();
    for method in ["GET", "HEAD"] {
        made.set(0);
        let (serving, mut client) = server.connect_through(LOCAL, 64);
        let local = LocalSet::new();
        local.spawn_local(async move { drop(serving.await) });
        let asking = request(&format!("{method} /stats"), &[], "").repeat(20);
        let (mut reader, mut writer) = tokio::io::split(&mut client);
        let unread = async {
            tokio::select! {
                biased;
                written = writer.write_all(asking.as_bytes()) => written.unwrap(),
                () = async { for _ in 0..20 { settle().await } } => {}
            }
        };
        local.run_until(unread).await;
        assert_eq!(made.get(), 1, "{method}");
        let everything = async {
            let mut text = String::new();
            let rest = request("GET /livez", &["Connection: close"], "");
            let reading = reader.read_to_string(&mut text);
            let ending = async { writer.write_all(rest.as_bytes()).await };
            let _ = tokio::join!(reading, ending);
            text
        };
        drop(local.run_until(everything).await);
    }
}

#[tokio::test]
async fn a_batch_ends_when_its_connection_is_reset() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let place = server.places.enter();
    let serving = serve(stream, peer, &server.context, &place);
    let asking = async {
        client.write_all(batch(10_000).as_bytes()).await.unwrap();
        while server.broker.published.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(server.places.held() > 10 * BUFFERS);
        client.set_zero_linger().unwrap();
        drop(client);
    };
    let (ended, ()) = timeout(PATIENCE, async { tokio::join!(serving, asking) }).await.unwrap();
    assert!(ended.is_none());
    assert!(server.places.held() < BUFFERS);
    assert_eq!(server.control.barrier.requests(), 0);
    let published = server.broker.published.borrow().len();
    assert!(published <= BATCH_WINDOW_MIN, "{published} messages of a publisher that is gone");
}
