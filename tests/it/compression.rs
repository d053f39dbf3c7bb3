//! permessage-deflate: when it is agreed, which clients get what, and what compressed messages may
//! do.
//!
//! Compressed and inflated here by zlib's functions themselves, not by the server's code.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

use crate::support::{
    PATIENCE,
    client::{Client, little_room},
    eventually,
    frames::{self, BINARY, CONTINUATION, Frame, PING, PONG, TEXT, masked},
    http::{Http, post},
    metrics::metric,
    publish::Publisher,
    server::Server,
    v1::{OFFER, V1},
};

const FLUSH_END: [u8; 4] = [0x00, 0x00, 0xff, 0xff];
const ANSWER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
/// In a frame's first byte.
const RSV1: u8 = 0x40;

fn server(more: &[&str]) -> Server {
    Server::start(&[&["--compression", "on", "--echo"], more].concat())
}

/// A client of `target` that offers compression, with `parameters`.
#[track_caller]
fn open(server: &Server, target: &str, parameters: &str) -> Client {
    open_over(Http::connect(server.addr()), server, target, parameters)
}

#[track_caller]
fn open_over(http: Http, server: &Server, target: &str, parameters: &str) -> Client {
    let offer = format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
    let mut client = Client::try_open(http, server.addr(), target, &offer)
        .unwrap_or_else(|response| panic!("{target} upgrades: {response:?}"));
    let answer = client.upgrade.header("sec-websocket-extensions").unwrap_or_default();
    assert!(answer.starts_with(ANSWER), "{answer:?}");
    client.http.inbox.compression = true;
    client
}

/// A message that shrinks, `number`ed.
fn json(number: usize) -> String {
    let item = format!("{{\"symbol\":\"ETH-USD\",\"price\":{number}.25,\"side\":\"buy\"}}");
    format!("{{\"sequence\":{number},\"items\":[{}]}}", [item.as_str(); 20].join(","))
}

fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 1000);
    let mut state = Compress::new(Compression::best(), false);
    state.compress_vec(payload, &mut out, FlushCompress::Sync).unwrap();
    assert!(out.ends_with(&FLUSH_END));
    out.truncate(out.len() - FLUSH_END.len());
    out
}

/// The text of a compressed frame for a client with a window of `bits`.
#[track_caller]
fn inflated(frame: &Frame, bits: u8) -> String {
    assert!(frame.compressed, "{frame:?}");
    let whole = [frame.payload.as_slice(), &FLUSH_END].concat();
    let mut out = Vec::with_capacity(4 << 20);
    let mut state = Decompress::new_with_window_bits(false, bits);
    state.decompress_vec(&whole, &mut out, FlushDecompress::Sync).expect("deflate data");
    String::from_utf8(out).unwrap()
}

fn masked_deflated(opcode: u8, payload: &[u8]) -> Vec<u8> {
    masked(true, RSV1 | opcode, &deflated(payload))
}

/// Clients with and without compression share a channel, and each gets all of it in order.
#[test]
fn compressed_and_plain_clients_share_a_channel() {
    let server = server(&[]);
    let mut plain: Vec<Client> = (0..4).map(|_| Client::connect(server.addr())).collect();
    let mut deflate: Vec<Client> = (0..4).map(|_| open(&server, "/ws", "")).collect();
    let mut publisher = Publisher::new(server.addr());
    for number in 0..200 {
        publisher.publish_to_all(json(number));
    }
    for client in &mut plain {
        for number in 0..200 {
            client.assert_text(&json(number));
        }
    }
    for number in 0..200 {
        let frames: Vec<Frame> = deflate.iter_mut().map(Client::message).collect();
        assert_eq!(inflated(&frames[0], 15), json(number));
        assert!(frames[0].payload.len() * 4 < json(number).len(), "{:?}", frames[0]);
        assert!(frames.iter().all(|frame| *frame == frames[0]), "the same bytes for all");
    }
}

/// Each encoding in use costs a shard one encode for a message, however many clients use it.
#[test]
fn each_encoding_costs_one_encode_a_shard() {
    let server = server(&["--threads", "1"]);
    let addr = server.addr();
    let encoded = |word: &str| {
        let label = format!("encoding=\"{word}\"");
        metric(addr, "wsbcast_frames_encoded_total", &[&label])
    };
    let mut plain: Vec<Client> = (0..3).map(|_| Client::connect(addr)).collect();
    let mut large: Vec<Client> = (0..5).map(|_| open(&server, "/ws", "")).collect();
    for number in 0..10 {
        post(addr, "/broadcast", &json(number)).assert_status(202);
    }
    for client in plain.iter_mut().chain(&mut large) {
        (0..10).for_each(|_| drop(client.message()));
    }
    assert_eq!((encoded("plain"), encoded("deflate")), (10.0, 10.0));
    drop(plain);
    eventually(PATIENCE, "they have left", || metric(addr, "wsbcast_connections", &[]) == 5.0);
    let mut small = open(&server, "/ws", "; server_max_window_bits=9");
    post(addr, "/broadcast", &json(10)).assert_status(202);
    assert_eq!(inflated(&small.message(), 9), json(10));
    assert_eq!(inflated(&large[0].message(), 15), json(10));
    assert_eq!((encoded("plain"), encoded("deflate")), (10.0, 12.0));
    assert_eq!(metric(addr, "wsbcast_deliveries_total", &[]), 86.0);
}

#[test]
fn every_window_size_is_kept_to_by_the_server() {
    let server = server(&[]);
    let sizes = 9..=15;
    let mut clients: Vec<(u8, Client)> = sizes
        .map(|bits| (bits, open(&server, "/ws", &format!("; server_max_window_bits={bits}"))))
        .collect();
    for (bits, client) in &clients {
        let answer = client.upgrade.header("sec-websocket-extensions");
        assert_eq!(answer, Some(format!("{ANSWER}; server_max_window_bits={bits}").as_str()));
    }
    let mut random = fastrand::Rng::with_seed(1);
    let letters: String = (0..20_000).map(|_| random.char('a'..='f')).collect();
    // A repetition that lies outside of the smaller windows.
    let text = letters.clone() + &letters;
    Publisher::new(server.addr()).publish_to_all(&text);
    for (bits, client) in &mut clients {
        assert!(inflated(&client.message(), *bits) == text, "window {bits}");
    }
}

#[test]
fn only_who_offers_gets_it_and_only_if_it_is_on() {
    let on = server(&[]);
    let off = Server::start(&["--echo"]);
    let offered = |server: &Server, target: &str, offer: &str| {
        let addr = server.addr();
        let header = format!("Sec-WebSocket-Extensions: {offer}\r\n");
        let client = Client::try_open(Http::connect(addr), addr, target, &header).unwrap();
        client.upgrade.header("sec-websocket-extensions").map(str::to_owned)
    };
    for target in ["/ws", "/echo"] {
        assert_eq!(
            Client::open(on.addr(), target).upgrade.header("sec-websocket-extensions"),
            None
        );
        assert_eq!(offered(&off, target, "permessage-deflate"), None);
        assert_eq!(offered(&on, target, "permessage-deflate").as_deref(), Some(ANSWER));
        assert_eq!(offered(&on, target, "permessage-deflate; server_max_window_bits=8"), None);
        assert_eq!(offered(&on, target, "x-other"), None);
    }
}

/// Short messages, and messages that do not shrink, are sent uncompressed.
#[test]
fn messages_that_do_not_shrink_are_sent_plain() {
    let server = server(&["--compression-threshold", "100"]);
    let mut client = open(&server, "/ws", "");
    let mut publisher = Publisher::new(server.addr());
    let noise: String = {
        let mut random = fastrand::Rng::with_seed(2);
        (0..110).map(|_| random.char('!'..='~')).collect()
    };
    for (text, compressed) in
        [("x".repeat(99), false), ("x".repeat(100), true), (noise, false), (String::new(), false)]
    {
        publisher.publish_to_all(&text);
        let frame = client.message();
        assert_eq!(frame.compressed, compressed, "{frame:?}");
        assert_eq!(if compressed { inflated(&frame, 15) } else { frame.text() }, text);
    }
}

/// A client may compress its messages, also in fragments with pings between them.
#[test]
fn a_client_may_compress_its_messages_in_fragments() {
    let server = server(&[]);
    let mut client = open(&server, "/echo", "");
    let text = json(7);
    client.send(masked_deflated(TEXT, text.as_bytes()));
    assert_eq!(inflated(&client.message(), 15), text);
    // Uncompressed ones remain allowed.
    client.send_text(&text);
    assert_eq!(inflated(&client.message(), 15), text);
    let data = deflated(text.as_bytes());
    let (first, rest) = data.split_at(10);
    let (second, third) = rest.split_at(1);
    client.send(masked(false, RSV1 | BINARY, first));
    client.send(masked(true, PING, b"between"));
    client.send(masked(false, CONTINUATION, second));
    client.send(masked(true, CONTINUATION, third));
    assert_eq!(client.frame().opcode, PONG);
    let echoed = client.message();
    assert_eq!((echoed.opcode, inflated(&echoed, 15)), (BINARY, text));
    client.leave();
}

/// The compressed message of a client that may publish reaches all clients.
#[test]
fn clients_compressed_messages_reach_everyone() {
    let server = server(&["--client-publish", "broadcast"]);
    let mut plain = Client::connect(server.addr());
    let mut deflate = open(&server, "/ws", "");
    for number in 0..50 {
        deflate.send(masked_deflated(TEXT, json(number).as_bytes()));
    }
    for number in 0..50 {
        plain.assert_text(&json(number));
        assert_eq!(inflated(&deflate.message(), 15), json(number));
    }
}

/// A message that inflates beyond the limit is closed with 1009; one of exactly the limit is taken.
#[test]
fn a_decompression_bomb_is_1009() {
    let server = server(&["--max-message-size", "64KiB"]);
    let mut client = open(&server, "/echo", "");
    let longest = "y".repeat(64 * 1024);
    client.send(masked_deflated(TEXT, longest.as_bytes()));
    assert!(inflated(&client.message(), 15) == longest);
    client.send(masked_deflated(TEXT, (longest + "y").as_bytes()));
    client.assert_closed(1009);
    // 16 KiB that would become 16 MiB.
    let bomb = masked_deflated(BINARY, &vec![0; 16 << 20]);
    let before = metric(server.addr(), "process_resident_memory_bytes", &[]);
    for _ in 0..20 {
        let mut client = open(&server, "/echo", "");
        client.send(&bomb);
        client.assert_closed(1009);
    }
    let grown = metric(server.addr(), "process_resident_memory_bytes", &[]) - before;
    assert!(grown < 8.0 * 1024.0 * 1024.0, "{grown}");
}

/// Payload that is no deflate data is closed with 1002, inflated text that is no UTF-8 with 1007.
#[test]
fn bad_deflate_data_is_1002_and_bad_text_1007() {
    let server = server(&[]);
    for (opcode, payload, code) in [
        (BINARY, vec![0xff; 20], 1002),
        (BINARY, deflated(&json(1).into_bytes())[..30].to_vec(), 1002),
        (TEXT, deflated(&[0xff; 300]), 1007),
        (TEXT, deflated(&"é".repeat(200).as_bytes()[..399]), 1007),
    ] {
        let mut client = open(&server, "/echo", "");
        client.send(masked(true, RSV1 | opcode, &payload));
        client.assert_closed(code);
    }
}

#[test]
fn a_reserved_bit_that_nobody_agreed_to_is_1002() {
    let server = server(&[]);
    for target in ["/ws", "/echo"] {
        let mut plain = Client::open(server.addr(), target);
        plain.send(masked_deflated(TEXT, b"hello"));
        plain.assert_closed(1002);
        for wrong in [
            masked(true, 0x20 | TEXT, b""),
            masked(true, 0x10 | RSV1 | TEXT, b""),
            masked(true, RSV1 | PING, b""),
            masked(true, RSV1 | frames::CLOSE, b""),
            [masked(false, RSV1 | TEXT, &[]), masked(true, RSV1 | CONTINUATION, &[])].concat(),
            [masked(false, TEXT, b"a"), masked(true, RSV1 | CONTINUATION, b"b")].concat(),
        ] {
            let mut client = open(&server, target, "");
            client.send(&wrong);
            client.assert_closed(1002);
        }
    }
}

/// Compressed messages of clients that may not publish are dropped before they are inflated.
#[test]
fn unwanted_compressed_messages_are_dropped_unread() {
    let server = server(&[]);
    let mut client = open(&server, "/ws", "");
    client.send(masked_deflated(TEXT, &vec![0; 16 << 20]));
    client.send(masked(true, RSV1 | TEXT, &[0xff; 20]));
    client.send(masked(true, PING, b"still here"));
    assert_eq!(client.frame().opcode, PONG);
    assert_eq!(metric(server.addr(), "wsbcast_client_messages_dropped_total", &[]), 2.0);
    client.leave();
}

/// A client with compression that falls behind by more than the backlog is closed with 1013, after
/// whole messages in order; clients that read are not disturbed.
#[test]
fn a_compressing_client_past_its_backlog_is_closed() {
    let server =
        server(&["--threads", "1", "--backlog", "128KiB", "--max-broadcast-size", "64KiB"]);
    let addr = server.addr();
    let mut stalled = open_over(little_room(addr), &server, "/ws", "");
    let mut prompt = open(&server, "/ws", "");
    let mut publisher = Publisher::new(addr);
    let mut random = fastrand::Rng::with_seed(3);
    let mut published = Vec::new();
    while metric(addr, "wsbcast_slow_consumers_total", &["action=\"close\""]) == 0.0 {
        assert!(published.len() < 2000, "a client that never reads is closed");
        let text: String = (0..16_000).map(|_| random.char('a'..='p')).collect();
        publisher.publish_to_all(&text);
        assert!(inflated(&prompt.message(), 15) == text);
        published.push(text);
    }
    let mut got = 0;
    loop {
        let frame = stalled.frame();
        if frame.opcode == frames::CLOSE {
            assert_eq!(frame.close().0, 1013);
            break;
        }
        assert!(inflated(&frame, 15) == published[got], "whole, in order, until its end");
        got += 1;
    }
    assert!(got > 0, "its socket had taken messages before it was slow");
    publisher.publish_to_all(json(1));
    assert_eq!(inflated(&prompt.message(), 15), json(1));
}

/// A drained client gets all that was published, and then a Close frame that is not compressed.
#[test]
fn a_drained_client_gets_messages_and_a_plain_close() {
    let mut server = server(&["--drain-timeout", "10s", "--drain-close-over", "10s"]);
    let mut clients: Vec<Client> = (0..5).map(|_| open(&server, "/ws", "")).collect();
    let mut publisher = Publisher::new(server.addr());
    for number in 0..20 {
        publisher.publish_to_all(json(number));
    }
    server.signal(&["TERM"]);
    for client in &mut clients {
        for number in 0..20 {
            assert_eq!(inflated(&client.message(), 15), json(number));
        }
        client.assert_closed(1012);
    }
    server.assert_exit(0);
}

#[test]
fn the_subprotocol_is_compressed_both_ways() {
    let server = server(&["--client-publish", "broadcast"]);
    let offer = format!("{OFFER}Sec-WebSocket-Extensions: permessage-deflate\r\n");
    let http = Http::connect(server.addr());
    let mut client = Client::try_open(http, server.addr(), "/ws?channel=a", &offer).unwrap();
    client.http.inbox.compression = true;
    let mut client = V1::welcomed(client);
    let word = format!(r#"{{"type":"publish","channel":"a","data":{:?}}}"#, json(7));
    client.client.send(masked_deflated(TEXT, word.as_bytes()));
    let (mut texts, mut compressed) = (Vec::new(), 0);
    while texts.len() < 2 {
        let frame = client.client.message();
        compressed += usize::from(frame.compressed);
        texts.push(if frame.compressed { inflated(&frame, 15) } else { frame.text() });
    }
    texts.sort();
    assert_eq!(compressed, 1, "the message; what is short or for one client alone is not");
    assert!(texts[0].starts_with(r#"{"type":"message","channel":"a""#), "{}", texts[0]);
    assert!(texts[0].contains("ETH-USD") && texts[1].starts_with(r#"{"type":"published""#));
}
