//! `POST /broadcast`: accepted and refused requests, and that the publisher sees the answer.

use bytes::Bytes;
use futures_util::FutureExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpSocket,
};

use super::{FOREIGN, Fixture, LOCAL, body, header, read_answer, request, settle, status};
use crate::{
    broker::{PublishError, Receipt},
    clock::Clock,
    http::{access::Rules, serve},
    metrics::{PublishFailure, Scope, Source},
    ws::Kind,
};

fn post(headers: &[&str], body: &str) -> String {
    request("POST /broadcast", headers, body)
}

/// A message is text whatever its type unless it is said to be binary.
#[tokio::test]
async fn a_message_is_text_unless_declared_binary() {
    let server = Fixture::new().start();
    let curl = "Content-Type: application/x-www-form-urlencoded";
    let answer = server.ask(post(&[curl], "hä")).await;
    assert_eq!(status(&answer), 202);
    assert_eq!(header(&answer, "content-type"), "application/json");
    let expected = json!({"channel": "notifications", "epoch": "e1", "offset": 1,
     "scope": "cluster", "clients": 0});
    assert_eq!(body(&answer), expected);
    let binary = "content-type: Application/Octet-Stream; x=y";
    let target = request("POST /broadcast?channel=a%3Ab", &[binary], "\u{1}");
    assert_eq!(body(&server.ask(target).await)["channel"], "a:b");
    let empty = ["Content-Type: text/plain; charset=utf-8", "Content-Length: 0"];
    assert_eq!(status(&server.ask(post(&empty, "")).await), 202, "empty, and meant to be");
    let published = server.broker.published.borrow();
    assert_eq!(published[0], ("notifications".into(), Kind::Text, Bytes::from("hä")));
    assert_eq!(published[1], ("a:b".into(), Kind::Binary, Bytes::from_static(b"\x01")));
    assert_eq!(published[2], ("notifications".into(), Kind::Text, Bytes::new()));
    assert_eq!(server.metrics.published.get(Source::Http, Scope::Cluster), 3);
}

#[tokio::test]
async fn invalid_publications_are_refused_and_counted() {
    let server = Fixture::new().start();
    let mut not_utf8 = post(&["Content-Length: 2"], "").into_bytes();
    not_utf8.extend([0xc3, 0x28]);
    assert_eq!(status(&server.ask(not_utf8).await), 400);
    for target in ["?channel=", "?channel=a&channel=b", "?channel=%"] {
        let answer = server.ask(request(&format!("POST /broadcast{target}"), &[], "x")).await;
        assert_eq!(status(&answer), 400, "{target}");
    }
    let get = server.ask(request("GET /broadcast", &[], "")).await;
    assert_eq!((status(&get), header(&get, "allow").as_str()), (405, "POST"));
    for (reason, times) in [(PublishFailure::BadRequest, 2), (PublishFailure::BadChannel, 2)] {
        assert_eq!(server.metrics.publish_failures.get(reason as usize), times, "{reason:?}");
    }
    assert!(server.broker.published.borrow().is_empty());
}

#[tokio::test]
async fn the_answer_says_what_became_of_the_message() {
    let server = Fixture::new().start();
    let answers = [
        (Ok(Receipt::Local), 202, ""),
        (Err(PublishError::ShardStalled), 503, "shard_stalled"),
        (Err(PublishError::BrokerLost), 503, "broker_lost"),
        (Err(PublishError::Unconfirmed), 504, "unconfirmed"),
    ];
    for (answer, expected, error) in answers {
        server.broker.answers.borrow_mut().push_back(answer);
        let answer = server.ask(post(&[], "x")).await;
        assert_eq!(status(&answer), expected);
        if expected == 202 {
            let local = json!(
                {"channel": "notifications", "epoch": null, "offset": null,
                 "scope": "local", "clients": 0}
            );
            assert_eq!(body(&answer), local);
        } else {
            assert_eq!(body(&answer)["error"], error);
        }
    }
    for reason in
        [PublishFailure::ShardStalled, PublishFailure::BrokerLost, PublishFailure::Unconfirmed]
    {
        assert_eq!(server.metrics.publish_failures.get(reason as usize), 1, "{reason:?}");
    }
}

/// A broker that never answers is answered for within 1200 ms.
#[tokio::test(start_paused = true)]
async fn a_silent_broker_is_answered_for_within_1200_ms() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let began = Clock::start().instant();
    assert_eq!(status(&server.ask(post(&[], "x")).await), 504);
    assert!(began.elapsed() <= std::time::Duration::from_millis(1200));
}

#[tokio::test]
async fn a_slow_publication_holds_up_nobody_else() {
    let server = Fixture::new().start();
    server.broker.is_held.set(true);
    let (slow, mut client) = server.connect(LOCAL);
    client.write_all(post(&[], "slow").as_bytes()).await.unwrap();
    let mut slow = Box::pin(slow);
    assert!((&mut slow).now_or_never().is_none());
    server.broker.is_held.set(false);
    assert_eq!(status(&server.ask(post(&[], "quick")).await), 202);
    server.broker.gate.notify_one();
    assert!((&mut slow).now_or_never().is_none(), "its connection stays open");
    assert_eq!(status(&read_answer(&mut client).await), 202);
}

/// A body that is announced too big is refused before it is sent.
#[tokio::test]
async fn a_body_announced_too_big_is_refused_at_once() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let head = post(&["Content-Length: 65537", "Expect: 100-continue"], "");
    client.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let reading = async {
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
    };
    let (handed, ()) = tokio::join!(serving, reading);
    assert!(handed.is_none());
    assert_eq!((status(&answer), header(&answer, "connection").as_str()), (413, "close"));
    assert!(!answer.contains("100 Continue"));
    assert_eq!(server.metrics.publish_failures.get(PublishFailure::TooBig as usize), 1);
    assert_eq!(server.control.barrier.requests(), 0);
}

#[tokio::test]
async fn a_publisher_that_waits_is_told_to_continue() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        let head = post(&["Content-Length: 5", "Expect: 100-continue"], "");
        client.write_all(head.as_bytes()).await.unwrap();
        assert_eq!(read_answer(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").await.unwrap();
        assert_eq!(status(&read_answer(&mut client).await), 202);
        drop(client);
    };
    tokio::join!(serving, asking);
    assert_eq!(server.broker.published.borrow()[0].2, "hello");
}

/// A chunked body is taken whole and refused once it is too big.
#[tokio::test]
async fn a_chunked_body_is_taken_whole_within_its_bound() {
    let server = Fixture::new().start();
    let chunked = |chunks: usize| {
        let chunk = format!("400\r\n{}\r\n", "x".repeat(1024));
        post(&["Transfer-Encoding: chunked"], "") + &chunk.repeat(chunks) + "0\r\n\r\n"
    };
    assert_eq!(status(&server.ask(chunked(64)).await), 202);
    assert_eq!(server.broker.published.borrow()[0].2, "x".repeat(65_536));
    let answer = server.ask(chunked(65)).await;
    assert_eq!((status(&answer), header(&answer, "connection").as_str()), (413, "close"));
    let broken = post(&["Transfer-Encoding: chunked"], "") + "zz\r\n";
    assert_eq!(status(&server.ask(broken).await), 400);
    let cut = post(&["Content-Length: 9"], "") + "short";
    assert_eq!(status(&server.ask(cut).await), 400);
    assert_eq!(server.broker.published.borrow().len(), 1);
}

/// A client that sends all of a refused body still sees the answer.
#[tokio::test]
async fn a_refused_body_still_gets_its_answer() {
    let server = Fixture::new().start();
    // Small kernel buffers: the body cannot vanish into them and look as if it had been read.
    let small = || {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 * 1024).unwrap();
        socket.set_send_buffer_size(64 * 1024).unwrap();
        socket
    };
    let listening = small();
    listening.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = listening.listen(1).unwrap();
    let mut client = small().connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let asking = async {
        let bytes = 3 * 1024 * 1024;
        let head = post(&[&format!("Content-Length: {bytes}")], "");
        client.write_all(head.as_bytes()).await.unwrap();
        client.write_all(&vec![b'x'; bytes]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        drop(client);
        answer
    };
    let place = server.places.enter();
    let (upgraded, answer) = tokio::join!(serve(stream, peer, &server.context, &place), asking);
    assert!(upgraded.is_none());
    assert_eq!(status(&answer), 413);
}

/// Lingering ends with its deadline and the request counts until then.
#[tokio::test(start_paused = true)]
async fn lingering_ends_with_its_deadline() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let asking = async {
        client.write_all(post(&["Content-Length: 65537"], "").as_bytes()).await.unwrap();
        assert_eq!(status(&read_answer(&mut client).await), 413);
        settle().await;
        assert_eq!(server.control.barrier.requests(), 1);
    };
    let mut serving = Box::pin(serving);
    let began = Clock::start().instant();
    tokio::select! {
        biased;
        _ = &mut serving => panic!("no lingering"),
        () = asking => {}
    }
    assert!(serving.await.is_none());
    assert_eq!(began.elapsed().as_secs(), 2);
    assert_eq!(server.control.barrier.requests(), 0);
}

/// Publishing needs the right to and the refusal says how to get it.
#[tokio::test]
async fn publishing_needs_the_right_to() {
    let token = || Rules {
        tokens: vec!["one".into(), "two".into()].into(),
        insecure_publish: false,
        ..Rules::default()
    };
    let server = Fixture::new().start();
    let denied = server.ask_as(FOREIGN, post(&[], "x")).await;
    assert_eq!(status(&denied), 403);
    assert!(body(&denied)["hint"].as_str().unwrap().contains("--api-token"));
    let page = server.ask(post(&["Origin: http://evil.example"], "x")).await;
    assert_eq!(status(&page), 403);
    assert_eq!(server.metrics.publish_failures.get(PublishFailure::Forbidden as usize), 2);

    let server = Fixture::with(|context| context.settings.access = token()).start();
    for headers in [&[][..], &["Authorization: Bearer wrong"], &["Authorization: one"]] {
        let answer = server.ask(post(headers, "x")).await;
        assert_eq!(status(&answer), 401);
        assert_eq!(header(&answer, "www-authenticate"), "Bearer");
    }
    let in_query = server.ask(request("POST /broadcast?token=one", &[], "x")).await;
    assert_eq!(status(&in_query), 401, "a token in a URL ends up in logs: handshakes only");
    let answer = server.ask_as(FOREIGN, post(&["Authorization: bearer two"], "x")).await;
    assert_eq!(status(&answer), 202);
}

/// A batch is published in order and each line has its result.
#[tokio::test]
async fn each_line_of_a_batch_has_its_result() {
    let server = Fixture::new().start();
    let ndjson = "Content-Type: application/x-ndjson";
    let lines = "{\"data\":\"a\"}\n{\"channel\":\"x\",\"data\":{\"b\": 1}}\n{\"data\":\"c\"}\n";
    let answer = server.ask(post(&[ndjson], lines)).await;
    assert_eq!(status(&answer), 202);
    let offsets: Vec<_> =
        body(&answer)["results"].as_array().unwrap().iter().map(|r| r["offset"].clone()).collect();
    assert_eq!(offsets, [1, 2, 3]);
    assert_eq!(body(&answer)["results"][1]["channel"], "x");
    let texts: Vec<_> = server.broker.published.take().into_iter().map(|p| (p.0, p.2)).collect();
    let expected = [("notifications", "a"), ("x", "{\"b\":1}"), ("notifications", "c")];
    assert_eq!(texts, expected.map(|(channel, text)| (channel.to_string(), Bytes::from(text))));

    let bad = server.ask(post(&[ndjson], "{\"data\":1}\n{}\n")).await;
    assert_eq!(status(&bad), 400);
    assert!(body(&bad)["hint"].as_str().unwrap().starts_with("line 2: "));
    assert!(server.broker.published.borrow().is_empty(), "nothing is sent of a bad batch");

    let answers = [Err(PublishError::Unconfirmed), Ok(Receipt::Local)];
    server.broker.answers.borrow_mut().extend(answers);
    let mixed = server.ask(post(&[ndjson], "{\"data\":1}\n{\"data\":2}")).await;
    assert_eq!(status(&mixed), 504);
    assert_eq!(body(&mixed)["results"][0]["error"], "unconfirmed");
    assert_eq!(body(&mixed)["results"][1]["scope"], "local");
}

/// A batch keeps its order when it is longer than the window.
#[tokio::test]
async fn a_batch_keeps_its_order_past_the_window() {
    let server = Fixture::new().start();
    let count = crate::limits::BATCH_WINDOW_MAX * 2;
    let lines: String = (0..count).map(|n| format!("{{\"data\":{n}}}\n")).collect();
    let answer = server.ask(post(&["Content-Type: application/x-ndjson"], &lines)).await;
    let results = body(&answer);
    for (n, (published, result)) in server
        .broker
        .published
        .borrow()
        .iter()
        .zip(results["results"].as_array().unwrap())
        .enumerate()
    {
        assert_eq!(published.2, n.to_string());
        assert_eq!(result["offset"], n + 1);
    }
    assert_eq!(server.broker.published.borrow().len(), count);
}

/// A key goes with the message and a bad one publishes nothing.
#[tokio::test]
async fn a_bad_key_publishes_nothing() {
    let server = Fixture::new().start();
    let longest = "k".repeat(128);
    for key in ["a", "\"quoted\"", &longest] {
        let header = format!("Idempotency-Key: {key}");
        assert_eq!(status(&server.ask(post(&[&header], "x")).await), 202);
        assert_eq!(server.broker.keys.borrow_mut().pop().unwrap().as_deref(), Some(key));
    }
    server.broker.published.borrow_mut().clear();
    let too_long = format!("Idempotency-Key: {longest}k");
    for headers in [
        &["Idempotency-Key:"][..],
        &["Idempotency-Key: a b"],
        &["Idempotency-Key: \u{e4}"],
        &[&too_long],
        &["Idempotency-Key: a", "Idempotency-Key: a"],
    ] {
        let answer = server.ask(post(headers, "x")).await;
        assert_eq!(status(&answer), 400, "{headers:?}");
    }
    assert_eq!(server.metrics.publish_failures.get(PublishFailure::BadRequest as usize), 5);
    assert!(server.broker.published.borrow().is_empty());
}

/// The lines of a batch have keys of their own or the batch's with their number.
#[tokio::test]
async fn the_lines_of_a_batch_have_their_own_keys() {
    let server = Fixture::new().start();
    let ndjson = "Content-Type: application/x-ndjson";
    let lines = "{\"data\":1}\n\n{\"data\":2}\n{\"data\":3,\"key\":\"own\"}";
    let keyed = server.ask(post(&[ndjson, "Idempotency-Key: b"], lines)).await;
    assert_eq!(status(&keyed), 202);
    let keys = server.broker.keys.take();
    let keys: Vec<_> = keys.iter().map(Option::as_deref).collect();
    assert_eq!(keys, [Some("b:1"), Some("b:3"), Some("own")]);
    server.ask(post(&[ndjson], lines)).await;
    assert_eq!(server.broker.keys.take(), [None, None, Some("own".to_owned())]);

    server.broker.published.borrow_mut().clear();
    let (first, rest) = lines.split_once('\n').unwrap();
    let longest = format!("Idempotency-Key: {}", "k".repeat(128));
    let fits = format!("Idempotency-Key: {}", "k".repeat(126));
    let many = "\n".repeat(8) + first;
    for (header, lines, number) in [
        (longest.as_str(), lines, 1),
        (&fits, &format!("{first}{many}\n{first}"), 10),
        ("X: y", &format!("{rest}\n{{\"data\":4,\"key\":\"\"}}"), 4),
        ("X: y", "{\"data\":4,\"key\":\"a b\"}", 1),
        ("X: y", "{\"data\":4,\"key\":7}", 1),
    ] {
        let bad = server.ask(post(&[ndjson, header], lines)).await;
        let hint = body(&bad)["hint"].as_str().unwrap().to_owned();
        assert_eq!(status(&bad), 400, "{hint}");
        assert!(hint.starts_with(&format!("line {number}: ")), "{hint}");
    }
    assert!(server.broker.published.borrow().is_empty(), "nothing is sent of a bad batch");
}

#[tokio::test]
async fn publishers_in_doubt_are_told_how_to_try_again() {
    let server = Fixture::new().start();
    server.broker.answers.borrow_mut().push_back(Err(PublishError::Unconfirmed));
    let answer = body(&server.ask(post(&[], "x")).await);
    assert!(answer["hint"].as_str().unwrap().contains("Idempotency-Key"), "{answer}");
}
