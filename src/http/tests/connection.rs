//! A connection's stages: how long each may last, what holds the drain open, what the drain closes.

use std::time::Duration;

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use super::{Fixture, IDLE_TIMEOUT, LOCAL, header, read_answer, request, settle, status};
use crate::{clock::Clock, drain::Phase, limits};

/// A request that does not come is waited for so long and no longer.
#[tokio::test(start_paused = true)]
async fn a_missing_request_is_awaited_for_a_bounded_time() {
    let server = Fixture::new().start();
    let (silent, _client) = server.connect(LOCAL);
    let began = Clock::start().instant();
    assert!(silent.await.is_none());
    assert_eq!(began.elapsed().as_secs(), limits::HTTP_HEAD_DEADLINE.as_secs());

    let (trickling, mut client) = server.connect(LOCAL);
    let began = Clock::start().instant();
    let trickle = async {
        loop {
            if client.write_all(b"G").await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::join!(trickling.map(drop), trickle);
    assert!(began.elapsed() <= limits::HTTP_HEAD_DEADLINE + Duration::from_secs(1));
}

/// An idle connection is kept for its deadline and the next request has its own.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_kept_for_its_deadline() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        for _ in 0..3 {
            client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
            assert_eq!(status(&read_answer(&mut client).await), 200);
            sleep(IDLE_TIMEOUT - Duration::from_secs(1)).await;
        }
        // The head of a fourth request begins and never ends.
        client.write_all(b"GET ").await.unwrap();
        let began = Clock::start().instant();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), limits::HTTP_HEAD_DEADLINE.as_secs());
    };
    tokio::join!(serving.map(drop), asking);

    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
        read_answer(&mut client).await;
        let began = Clock::start().instant();
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(began.elapsed().as_secs(), IDLE_TIMEOUT.as_secs());
    };
    tokio::join!(serving.map(drop), asking);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_a_408() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        let head = request("POST /broadcast", &["Content-Length: 9"], "");
        client.write_all((head + "short").as_bytes()).await.unwrap();
        let began = Clock::start().instant();
        let answer = read_answer(&mut client).await;
        assert_eq!((status(&answer), header(&answer, "connection").as_str()), (408, "close"));
        assert_eq!(began.elapsed().as_secs(), limits::HTTP_BODY_DEADLINE.as_secs());
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
}

/// A peer that does not take its answer is dropped and held the drain until then.
#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_no_answer_holds_the_drain() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect_through(LOCAL, 64);
    let mut serving = Box::pin(serving);
    let asking = async {
        client.write_all(request("GET /livez", &[], "").as_bytes()).await.unwrap();
        settle().await;
    };
    tokio::select! {
        biased;
        _ = &mut serving => panic!("ended early"),
        () = asking => {}
    }
    assert_eq!(server.control.barrier.requests(), 1);
    let began = Clock::start().instant();
    assert!(serving.await.is_none());
    assert_eq!(began.elapsed().as_secs(), limits::HTTP_ANSWER_DEADLINE.as_secs());
    assert_eq!(server.control.barrier.requests(), 0);
}

/// An idle connection holds no guard and the drain closes it at once.
#[tokio::test]
async fn an_idle_connection_does_not_hold_the_drain() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let mut serving = Box::pin(serving);
    client.write_all(request("POST /broadcast", &[], "x").as_bytes()).await.unwrap();
    assert!((&mut serving).now_or_never().is_none());
    assert_eq!(header(&read_answer(&mut client).await, "connection"), "keep-alive");
    assert_eq!(server.control.barrier.requests(), 0);
    server.enter(Phase::PreDelay);
    assert!((&mut serving).now_or_never().is_none(), "still served in the pre-delay");
    server.enter(Phase::Waiting);
    assert!(serving.now_or_never().unwrap().is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

/// A request in progress survives the drain and its answer is the last.
#[tokio::test]
async fn a_request_in_progress_survives_the_drain() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    let mut serving = Box::pin(serving);
    client.write_all(request("POST /broadcast", &[], "x").as_bytes()).await.unwrap();
    assert!((&mut serving).now_or_never().is_none());
    server.enter(Phase::Waiting);
    assert!((&mut serving).now_or_never().is_none());
    assert_eq!(server.control.barrier.requests(), 1);
    server.broker.gate.notify_one();
    let asking = async {
        let answer = read_answer(&mut client).await;
        assert_eq!((status(&answer), header(&answer, "connection").as_str()), (202, "close"));
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(server.control.barrier.requests(), 0);
        drop(client);
    };
    tokio::join!(serving.map(drop), asking);
}

/// A drain that was taken back while a connection was busy does not end it afterwards; the next
/// drain does.
#[tokio::test]
async fn a_busy_connection_outlives_a_drain_taken_back() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    let mut serving = Box::pin(serving);
    client.write_all(request("POST /broadcast", &[], "x").as_bytes()).await.unwrap();
    server.enter(Phase::Waiting);
    assert!((&mut serving).now_or_never().is_none());
    server.serve_again();
    server.broker.gate.notify_one();
    assert!((&mut serving).now_or_never().is_none(), "it stays");
    assert_eq!(header(&read_answer(&mut client).await, "connection"), "keep-alive");
    server.enter(Phase::PreDelay);
    assert!((&mut serving).now_or_never().is_none());
    server.enter(Phase::Waiting);
    assert!(serving.now_or_never().unwrap().is_none());
    assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_connection_made_while_draining_is_served_once() {
    let server = Fixture::new().start();
    server.enter(Phase::Waiting);
    let (serving, mut client) = server.connect(LOCAL);
    let mut serving = Box::pin(serving);
    assert!((&mut serving).now_or_never().is_none(), "closed before it could ask");
    let asking = async {
        client.write_all(request("POST /broadcast", &[], "x").as_bytes()).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
        answer
    };
    let ((), answer) = tokio::join!(serving.map(drop), asking);
    assert_eq!((status(&answer), header(&answer, "connection").as_str()), (202, "close"));
}

/// Keep alive follows the version and the connection header.
#[tokio::test]
async fn keep_alive_follows_version_and_header() {
    let server = Fixture::new().start();
    let old = "GET /livez HTTP/1.0\r\n\r\n";
    for (requests, answers) in [
        (request("GET /livez", &[], "").repeat(3), 3),
        (request("GET /livez", &["Connection: close"], "").repeat(3), 1),
        (old.repeat(3), 1),
        (old.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n").repeat(3), 3),
    ] {
        let answer = server.ask(&requests).await;
        assert_eq!(answer.matches(" 200 OK").count(), answers, "{requests}");
    }
}

#[tokio::test]
async fn heads_are_bounded_and_name_one_host() {
    let server = Fixture::new().start();
    let long = format!("X-Long: {}", "x".repeat(limits::HTTP_HEAD_BYTES_MAX));
    assert_eq!(status(&server.ask(request("GET /livez", &[&long], "")).await), 431);
    let many = vec!["X-Many: x"; limits::HTTP_HEADERS_MAX];
    assert_eq!(status(&server.ask(request("GET /livez", &many, "")).await), 431);
    assert_eq!(status(&server.ask(request("GET /livez", &many[1..], "")).await), 200);
    assert_eq!(status(&server.ask("GET /livez HTTP/1.1\r\n\r\n").await), 400);
    assert_eq!(status(&server.ask(request("GET /livez", &["Host: b"], "")).await), 400);
    assert_eq!(status(&server.ask("GET /livez HTTP/1.0\r\n\r\n").await), 200);
    assert_eq!(status(&server.ask("NO SENSE\r\n\r\n").await), 400);
    assert_eq!(server.control.barrier.requests(), 0);
}
