//! From a request for an event stream to the bare connection, with its head written.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Fixture, LOCAL, header, refused_by_a_drain_during_admission, request, status};
use crate::{
    broker::Since,
    channel::ChannelName,
    http::{Purpose, access::Rules},
    hub::Encoding,
};

/// A request for a stream of channel `a`.
fn listen(headers: &[&str]) -> String {
    request("GET /sse?channel=a", headers, "")
}

/// A stream is handed over behind its head with a guard and what else was read.
#[tokio::test]
async fn a_stream_is_handed_over_behind_its_head() {
    let server = Fixture::new().start();
    let position = "e:4".parse().unwrap();
    server.positions.borrow_mut().push((ChannelName::new("a").unwrap(), position));
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all((listen(&["Last-Event-ID: e:3"]) + "more").as_bytes()).await.unwrap();
    let handed = serving.await.unwrap();
    assert!(matches!(handed.handover.purpose, Purpose::Client(_)));
    assert_eq!(handed.handover.encoding, Encoding::Sse);
    assert!(handed.handover.arrival.publisher.is_none());
    assert_eq!(&handed.leftover[..], b"more");
    assert_eq!(server.wanted.borrow()[0].since, Some(Since::After("e:3".parse().unwrap())));
    assert_eq!((server.control.barrier.clients(), server.control.barrier.requests()), (1, 0));
    drop(handed);
    assert_eq!(server.control.barrier.clients(), 0);
    assert_eq!(std::rc::Rc::strong_count(&server.admissions), 2);

    let mut head = String::new();
    client.read_to_string(&mut head).await.unwrap();
    assert_eq!(status(&head), 200);
    assert_eq!(header(&head, "content-type"), "text/event-stream");
    assert_eq!(header(&head, "connection"), "close");
    assert_eq!(header(&head, "wsbcast-position"), "a=e:4");
    for absent in ["content-length", "transfer-encoding"] {
        assert_eq!(header(&head, absent), "", "its end is the connection's");
    }
    assert!(head.ends_with("\r\n\r\n"));
}

/// Answers to earlier requests are out before the head however slowly they are taken.
#[tokio::test]
async fn earlier_answers_are_out_before_a_streams_head() {
    let server = Fixture::new().start();
    for room_bytes in [1, 64, 150] {
        let (serving, mut client) = server.connect_through(LOCAL, room_bytes);
        let pipelined = request("GET /livez", &[], "").repeat(3) + &listen(&[]);
        let asking = async {
            let (mut answers, mut requests) = tokio::io::split(&mut client);
            let mut text = String::new();
            let reading = answers.read_to_string(&mut text);
            let writing = requests.write_all(pipelined.as_bytes());
            let (read, written) = tokio::join!(reading, writing);
            read.unwrap();
            written.unwrap();
            text
        };
        let serving = async { drop(serving.await.expect("it is handed over")) };
        let (text, ()) = tokio::join!(asking, serving);
        let statuses: Vec<&str> =
            text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200"; 4], "room for {room_bytes}: {text}");
        assert!(text.rfind("text/event-stream") > text.rfind("application/json"), "{text}");
    }
}

/// Nothing is said before admission and a drain that begins meanwhile still refuses.
#[tokio::test]
async fn nothing_is_sent_before_admission() {
    refused_by_a_drain_during_admission(&listen(&[])).await;
}

/// A peer that takes no head is given up with guard and admission.
#[tokio::test]
async fn a_peer_that_takes_no_head_is_given_up() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect_through(LOCAL, 100);
    let mut serving = Box::pin(serving);
    let request = listen(&[]);
    client.write_all(request.as_bytes()).await.unwrap();
    assert!((&mut serving).now_or_never().is_none(), "there is no room for the head");
    drop(client);
    assert!(serving.await.is_none());
    assert_eq!(server.control.barrier.clients(), 0);
    assert_eq!(std::rc::Rc::strong_count(&server.admissions), 2);
}

/// Listening needs no token, but a wrong one is refused.
#[tokio::test]
async fn listening_needs_no_token_and_no_wrong_one() {
    let tokens = || Rules {
        tokens: vec!["s3cret".into()].into(),
        insecure_publish: false,
        ..Rules::default()
    };
    let server = Fixture::with(|context| context.settings.access = tokens()).start();
    let ask = async |headers| status(&server.ask(listen(headers)).await);
    assert_eq!(ask(&["Origin: https://elsewhere.example"]).await, 200);
    assert_eq!(ask(&["Authorization: Bearer s3cret"]).await, 200);
    assert_eq!(ask(&["Authorization: Bearer other"]).await, 401);
}
