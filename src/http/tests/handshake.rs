//! From a request for a WebSocket to the stream, or to the reason why not.

use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{
    FOREIGN, Fixture, LOCAL, body, handshake, header, read_answer,
    refused_by_a_drain_during_admission, request, status,
};
use crate::{
    broker::{Position, Since},
    channel::ChannelName,
    clock::Millis,
    conn::{ClientPublish, Connected},
    drain::Phase,
    http::{Purpose, SubscribeRequest, Ticket, access::Rules, serve},
    hub::Key,
    metrics::Rejection,
};

/// A ticket that can be counted. HTTP keeps or drops it, and connects nobody.
impl Ticket for std::rc::Rc<()> {
    fn connect(self: Box<Self>, _: Connected, _: Millis) -> Key {
        unreachable!("the shard connects its clients")
    }
}

/// An upgrade hands over the stream and the frames sent with the request.
#[tokio::test]
async fn an_upgrade_hands_over_stream_and_frames() {
    let server = Fixture::new().start();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let first = handshake("/ws?channel=b&channel=a&channel=b", &[]) + "first frame";
    client.write_all(first.as_bytes()).await.unwrap();
    let mut upgraded = serve(stream, peer, &server.context, &server.places.enter()).await.unwrap();
    assert!(matches!(upgraded.purpose, Purpose::Client(_)));
    let channel = |one: &SubscribeRequest| one.channel.to_string();
    let channels: Vec<_> = server.wanted.borrow().iter().map(channel).collect();
    assert_eq!(channels, ["b", "a"]);
    assert!(upgraded.arrival.publisher.is_none());

    client.write_all(b", second frame").await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = upgraded.leftover.to_vec();
    upgraded.stream.read_to_end(&mut received).await.unwrap();
    assert_eq!(received, b"first frame, second frame");
    upgraded.stream.write_all(b"frames back").await.unwrap();
    assert_eq!(server.control.barrier.clients(), 1);
    assert_eq!(server.control.barrier.requests(), 0);
    assert_eq!(std::rc::Rc::strong_count(&server.admissions), 3);
    drop(upgraded);
    assert_eq!(server.control.barrier.clients(), 0);
    assert_eq!(std::rc::Rc::strong_count(&server.admissions), 2);

    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 101);
    assert_eq!(header(&answer, "connection"), "Upgrade");
    assert_eq!(header(&answer, "upgrade"), "websocket");
    assert_eq!(header(&answer, "sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(header(&answer, "content-length"), "");
    assert!(answer.ends_with("\r\n\r\nframes back"), "{answer}");
}

/// Requests pipelined before a handshake are answered first.
#[tokio::test]
async fn pipelined_requests_are_answered_before_a_handshake() {
    let server = Fixture::new().start();
    let (serving, mut client) = server.connect(LOCAL);
    let pipelined = request("GET /livez", &[], "")
        + &request("POST /broadcast", &[], "hello")
        + &handshake("/ws", &[])
        + "GET /livez HTTP/1.1\r\n\r\n";
    client.write_all(pipelined.as_bytes()).await.unwrap();
    let handed = serving.await.unwrap();
    assert_eq!(&handed.leftover[..], b"GET /livez HTTP/1.1\r\n\r\n");
    for expected in [200, 202, 101] {
        assert_eq!(status(&read_answer(&mut client).await), expected);
    }
}

#[tokio::test]
async fn a_handshake_split_at_every_byte_is_the_same() {
    let whole = handshake("/ws?channel=split", &[]);
    for at in 1..whole.len() {
        let server = Fixture::new().start();
        let (serving, mut client) = server.connect(LOCAL);
        let sending = async {
            client.write_all(&whole.as_bytes()[..at]).await.unwrap();
            super::settle().await;
            client.write_all(&whole.as_bytes()[at..]).await.unwrap();
        };
        let (handed, ()) = tokio::join!(serving, sending);
        assert!(handed.is_some(), "at {at}");
        assert_eq!(server.wanted.borrow()[0].channel.as_str(), "split", "at {at}");
    }
}

/// The 101 leaves only after admission and the drain counts the client before.
#[tokio::test]
async fn the_101_leaves_only_after_admission() {
    let server = Fixture::new().start();
    server.admit_gate.0.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
    let mut serving = Box::pin(serving);
    assert!((&mut serving).now_or_never().is_none());
    assert_eq!(server.control.barrier.clients(), 1);
    let mut byte = [0];
    assert!(client.read(&mut byte).now_or_never().is_none(), "an answer before admission");
    server.admit_gate.1.notify_one();
    assert!(serving.await.is_some());
    assert_eq!(status(&read_answer(&mut client).await), 101);
}

/// A client that dies before its 101 releases guard and admission.
#[tokio::test]
async fn a_client_gone_before_its_101_releases_everything() {
    let server = Fixture::new().start();
    server.admit_gate.0.set(true);
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
    let mut serving = Box::pin(serving);
    assert!((&mut serving).now_or_never().is_none());
    drop(client);
    server.admit_gate.1.notify_one();
    assert!(serving.await.is_none());
    assert_eq!(server.control.barrier.clients(), 0);
    assert_eq!(server.control.barrier.requests(), 0);
    assert_eq!(std::rc::Rc::strong_count(&server.admissions), 2);
}

/// A request that is no handshake is refused with the status that says why.
#[tokio::test]
async fn a_bad_handshake_gets_a_telling_status() {
    let server = Fixture::new().start();
    let plain = server.ask(request("GET /ws", &[], "")).await;
    assert_eq!((status(&plain), header(&plain, "upgrade").as_str()), (426, "websocket"));
    let old = handshake("/ws", &[]).replace("Version: 13", "Version: 8");
    let old = server.ask(old).await;
    assert_eq!((status(&old), header(&old, "sec-websocket-version").as_str()), (426, "13"));
    let bad_key = handshake("/ws", &[]).replace("dGhl", "");
    for bad in [
        bad_key,
        handshake("/ws?channel=no%20spaces", &[]),
        handshake("/ws?channel=", &[]),
        handshake("/ws?since=7", &[]),
        handshake("/ws", &["Content-Length: 1"]) + "x",
    ] {
        let answer = server.ask(&bad).await;
        assert_eq!(status(&answer), 400, "{bad}");
        assert!(body(&answer)["error"].is_string() && body(&answer)["hint"].is_string());
    }
    let post = server.ask(request("POST /ws", &[], "x")).await;
    assert_eq!((status(&post), header(&post, "allow").as_str()), (405, "GET"));
    let rejected = |reason| server.metrics.handshakes_rejected.get(reason as usize);
    for (reason, times) in [
        (Rejection::UpgradeRequired, 1),
        (Rejection::WrongVersion, 1),
        (Rejection::BadRequest, 2),
        (Rejection::BadChannel, 2),
        (Rejection::BadPosition, 1),
    ] {
        assert_eq!(rejected(reason), times, "{reason:?}");
    }
    assert_eq!(server.control.barrier.clients(), 0);
}

/// A draining process refuses new clients but not in the pre delay.
#[tokio::test]
async fn a_draining_process_refuses_new_clients() {
    let server = Fixture::new().start();
    server.enter(Phase::PreDelay);
    assert_eq!(status(&server.ask(handshake("/ws", &[])).await), 101);
    for phase in [Phase::Waiting, Phase::Closing] {
        server.enter(phase);
        let answer = server.ask(handshake("/ws", &[])).await;
        assert_eq!(status(&answer), 503);
        assert_eq!(header(&answer, "retry-after"), "5");
        assert_eq!(header(&answer, "connection"), "close");
        assert_eq!(body(&answer)["error"], "draining");
    }
    assert_eq!(server.metrics.handshakes_rejected.get(Rejection::Draining as usize), 2);
}

#[tokio::test]
async fn a_drain_that_begins_during_admission_still_refuses() {
    refused_by_a_drain_during_admission(&handshake("/ws", &[])).await;
}

#[tokio::test]
async fn a_full_process_refuses_with_a_retry_and_recovers() {
    let server = Fixture::with(|context| context.settings.connections_max = 2).start();
    let guards = [server.control.barrier.client(), server.control.barrier.client()];
    let answer = server.ask(handshake("/ws", &[])).await;
    assert_eq!((status(&answer), header(&answer, "retry-after").as_str()), (503, "1"));
    assert_eq!(server.metrics.handshakes_rejected.get(Rejection::Full as usize), 1);
    drop(guards);
    assert_eq!(status(&server.ask(handshake("/ws", &[])).await), 101);
}

#[tokio::test]
async fn echo_exists_only_when_asked_for() {
    assert_eq!(status(&Fixture::new().start().ask(handshake("/echo", &[])).await), 404);
    let server = Fixture::with(|context| context.settings.echo = true).start();
    let (serving, mut client) = server.connect(LOCAL);
    client.write_all(handshake("/echo", &[]).as_bytes()).await.unwrap();
    let handover = serving.await.unwrap().handover;
    assert!(matches!(handover.purpose, Purpose::Echo));
}

/// A client may publish only with the right to and a wrong token is refused.
#[tokio::test]
async fn publishing_over_a_websocket_needs_the_right() {
    let token = |token: &str| Rules {
        tokens: vec![token.into()].into(),
        insecure_publish: false,
        ..Rules::default()
    };
    let insecure = || Rules { tokens: vec![].into(), insecure_publish: true, ..Rules::default() };
    let none = Rules::default;
    let bearer = "Authorization: Bearer s3cret/";
    let basic = "Authorization: Basic abc";
    let page = "Origin: https://evil.example";
    let own_page = "Origin: http://localhost:8000";
    #[rustfmt::skip]
    let table = [
        (none(), true, LOCAL, "/ws", "Accept: */*", Some(true)),
        (none(), true, LOCAL, "/ws", own_page, Some(true)),
        (none(), true, LOCAL, "/ws", page, Some(false)),
        (none(), true, FOREIGN, "/ws", "Accept: */*", Some(false)),
        (none(), true, FOREIGN, "/ws?token=any", "Accept: */*", Some(false)),
        (none(), false, LOCAL, "/ws", "Accept: */*", Some(false)),
        (insecure(), true, FOREIGN, "/ws", "Accept: */*", Some(true)),
        (token("s3cret/"), true, FOREIGN, "/ws?token=s3cret%2F", page, Some(true)),
        (token("s3cret/"), true, FOREIGN, "/ws", bearer, Some(true)),
        (token("s3cret/"), false, FOREIGN, "/ws", bearer, Some(false)),
        (token("s3cret/"), true, LOCAL, "/ws", "Accept: */*", Some(false)),
        (token("s3cret/"), true, LOCAL, "/ws", basic, Some(false)),
        (token("other"), true, FOREIGN, "/ws", bearer, None),
        (token("other"), false, LOCAL, "/ws?token=x", "Accept: */*", None),
    ];
    for (row, (access, client_publish, peer, target, line, expected)) in
        table.into_iter().enumerate()
    {
        let server = Fixture::with(|context| {
            context.settings.access = access;
            context.settings.client_publish =
                if client_publish { ClientPublish::Broadcast } else { ClientPublish::Off };
        })
        .start();
        let (serving, mut client) = server.connect(peer);
        client.write_all(handshake(target, &[line]).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        let handed = serving.await;
        assert_eq!(
            handed.map(|handed| handed.handover.arrival.publisher.is_some()),
            expected,
            "row {row}"
        );
        let answer = read_answer(&mut client).await;
        assert_eq!(status(&answer), if expected.is_some() { 101 } else { 401 }, "row {row}");
    }
}

/// The 101 names the positions after which everything comes.
#[tokio::test]
async fn the_101_names_the_positions() {
    let server = Fixture::new().start();
    let position = |name: &str, text: &str| {
        (ChannelName::new(name).unwrap(), text.parse::<Position>().unwrap())
    };
    *server.positions.borrow_mut() = vec![position("a", "e1:7"), position("b:2", "e2:0")];
    let (serving, mut client) = server.connect(LOCAL);
    let target = "/ws?channel=a&since=e1:7&channel=b:2&last=3";
    client.write_all(handshake(target, &[]).as_bytes()).await.unwrap();
    assert!(serving.await.is_some());
    let answer = read_answer(&mut client).await;
    assert_eq!(header(&answer, "wsbcast-position"), "a=e1:7, b:2=e2:0");
    let since: Vec<_> = server.wanted.borrow().iter().map(|one| one.since.clone()).collect();
    let after = Since::After("e1:7".parse().unwrap());
    assert_eq!(since, [Some(after), Some(Since::Newest(3))]);
}

/// Positions are sent in a header of a length that clients can be expected to read.
#[tokio::test]
async fn positions_fit_into_a_header() {
    let position: Position = "epoch:41".parse().unwrap();
    for (count, is_told) in [(0, false), (2, true), (1000, false)] {
        let server = Fixture::new().start();
        let channel = |number| ChannelName::new(&format!("c{number}")).unwrap();
        let positions = (0..count).map(|number| (channel(number), position.clone()));
        *server.positions.borrow_mut() = positions.collect();
        let (serving, mut client) = server.connect(LOCAL);
        client.write_all(handshake("/ws", &[]).as_bytes()).await.unwrap();
        client.shutdown().await.unwrap();
        assert!(serving.await.is_some());
        let answer = read_answer(&mut client).await;
        let expected = if is_told { "c0=epoch:41, c1=epoch:41" } else { "" };
        assert_eq!(header(&answer, "wsbcast-position"), expected);
    }
}

/// Bytes behind a refused handshake are never a request. A proxy that takes any handshake for
/// granted would carry requests past its own rules.
#[tokio::test]
async fn bytes_behind_a_refused_handshake_are_no_request() {
    let server = Fixture::with(|context| context.settings.echo = true).start();
    let publish = request("POST /broadcast", &[], "smuggled");
    let upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
    let refused = [
        request("GET /ws", &[], ""),
        request("GET /sse?channel=%20", &[], ""),
        request("POST /ws", &upgrade, ""),
        request("OPTIONS /ws", &upgrade, ""),
        request("GET /ws", &upgrade, ""),
        request("GET /echo", &upgrade, ""),
        request("GET /livez", &upgrade, ""),
        request("GET /livez", &["Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"], ""),
        request("GET /nothing", &upgrade, ""),
        request("GET /ws", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], ""),
        request("GET /livez", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="], ""),
        handshake("/ws", &["Content-Length: 0", "Sec-WebSocket-Version: 8"]),
        handshake("/ws", &[&format!("Content-Length: {}", publish.len())]),
        handshake("/ws", &["Transfer-Encoding: chunked"]),
        handshake("/ws?channel=%20", &[]),
        handshake("/ws?since=nonsense", &[]),
        handshake("/ws", &[]).replace("HTTP/1.1", "HTTP/1.0"),
        "CONNECT localhost:8000 HTTP/1.1\r\nHost: localhost:8000\r\n\r\n".to_owned(),
    ];
    for refused in refused {
        let answer = server.ask(refused.clone() + &publish).await;
        assert_ne!(status(&answer), 101, "{refused}");
        assert_eq!(header(&answer, "connection"), "close", "{refused}{answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{refused}{answer}");
    }
    server.enter(Phase::Waiting);
    assert_eq!(status(&server.ask(handshake("/ws", &[]) + &publish).await), 503);
    assert_eq!(server.broker.published.borrow().len(), 0);
}
