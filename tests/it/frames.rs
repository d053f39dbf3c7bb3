//! RFC 6455 to the letter, over `/echo`: fragments, control frames, masking, UTF-8, closing.

use crate::support::{
    PATIENCE,
    client::{Client, Event},
    eventually,
    frames::{self, BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, masked},
    metrics::metric,
    server::Server,
};

fn echo_server() -> Server {
    Server::start(&["--echo"])
}

fn echo(server: &Server) -> Client {
    Client::open(server.addr(), "/echo")
}

/// Sends `bytes` on a new connection and asserts that it is closed with `code`.
#[track_caller]
fn assert_closes(server: &Server, bytes: &[u8], code: u16) {
    for target in ["/echo", "/ws"] {
        let mut client = Client::open(server.addr(), target);
        client.send(bytes);
        client.assert_closed(code);
    }
}

/// Text and binary messages come back as they were sent, at each of the three length encodings.
#[test]
fn text_and_binary_come_back_as_they_were() {
    let server = echo_server();
    let mut client = echo(&server);
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        for opcode in [TEXT, BINARY] {
            let payload = vec![b'x'; length];
            client.send(masked(true, opcode, &payload));
            let answer = client.message();
            assert_eq!((answer.opcode, answer.payload.len()), (opcode, length));
            assert_eq!(answer.payload, payload);
        }
    }
    client.leave();
}

#[test]
fn a_frame_may_be_split_at_every_byte() {
    let server = echo_server();
    let mut client = echo(&server);
    for payload in ["Grüße, 世界 🎈", &"y".repeat(130)] {
        let frame = masked(true, TEXT, payload.as_bytes());
        for at in 1..frame.len() {
            client.send(&frame[..at]);
            client.send(&frame[at..]);
            client.assert_text(payload);
        }
        for byte in &frame {
            client.send([*byte]);
        }
        client.assert_text(payload);
    }
    client.leave();
}

#[test]
fn many_frames_may_come_in_one_packet() {
    let server = echo_server();
    let mut client = echo(&server);
    let frames: Vec<u8> =
        (0..500).flat_map(|n| masked(true, TEXT, format!("message {n}").as_bytes())).collect();
    client.send(frames);
    for n in 0..500 {
        client.assert_text(&format!("message {n}"));
    }
    client.leave();
}

#[test]
fn a_fragmented_message_is_one_message() {
    let server = echo_server();
    let mut client = echo(&server);
    // The fragments cut the character in two: its UTF-8 is checked over the whole message.
    let text = "Grüße".as_bytes();
    client.send(masked(false, TEXT, &text[..3]));
    client.send(masked(false, CONTINUATION, b""));
    client.send(masked(false, CONTINUATION, &text[3..4]));
    client.send(masked(true, CONTINUATION, &text[4..]));
    client.assert_text("Grüße");
    client.leave();
}

/// A ping is answered with its payload, also between the fragments of a message.
#[test]
fn a_ping_between_fragments_is_answered() {
    let server = echo_server();
    let mut client = echo(&server);
    client.send(masked(true, PING, b"one"));
    let pong = client.frame();
    assert_eq!((pong.opcode, pong.text()), (PONG, "one".into()));

    client.send(masked(false, TEXT, b"frag"));
    let longest = [b'p'; 125];
    client.send(masked(true, PING, &longest));
    let pong = client.frame();
    assert_eq!((pong.opcode, &pong.payload[..]), (PONG, &longest[..]));
    client.send(masked(true, PONG, b"unasked"));
    client.send(masked(true, CONTINUATION, b"ment"));
    client.assert_text("fragment");
    client.leave();
}

#[test]
fn a_client_of_a_channel_gets_its_pongs_too() {
    let server = Server::start(&[]);
    let mut client = Client::connect(server.addr());
    client.send(masked(true, PING, b"are you there"));
    let pong = client.frame();
    assert_eq!((pong.opcode, pong.text()), (PONG, "are you there".into()));
    client.leave();
}

#[test]
fn breaking_the_protocol_closes_1002() {
    let server = echo_server();
    let unmasked = [frames::head(0x81, false, 2), b"hi".to_vec()].concat();
    assert_closes(&server, &unmasked, 1002);
    for first in [0xC1, 0xA1, 0x91, 0x83, 0x87, 0x8B, 0x8F] {
        let frame = [frames::head(first, true, 2), b"hi".to_vec()].concat();
        assert_closes(&server, &frame, 1002);
    }
    assert_closes(&server, &masked(true, CONTINUATION, b"of nothing"), 1002);
    let inside = [masked(false, TEXT, b"a"), masked(true, TEXT, b"b")].concat();
    assert_closes(&server, &inside, 1002);
    assert_closes(&server, &masked(false, PING, b"in parts"), 1002);
    assert_closes(&server, &masked(true, PING, &[b'x'; 126]), 1002);
    let negative = [vec![0x82, 0xFF, 0x80], vec![0; 11]].concat();
    assert_closes(&server, &negative, 1002);
}

#[test]
fn a_bad_close_frame_closes_1002() {
    let server = echo_server();
    assert_closes(&server, &masked(true, CLOSE, b"x"), 1002);
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        assert_closes(&server, &frames::masked_close(code, ""), 1002);
    }
}

#[test]
fn text_that_is_no_utf8_closes_1007_and_early() {
    let server = echo_server();
    for bad in [&b"\xFF"[..], b"ok \xC3\x28", b"\xED\xA0\x80", b"\xF4\x90\x80\x80", b"\xC3"] {
        assert_closes(&server, &masked(true, TEXT, bad), 1007);
    }
    // Early: the message has not ended, and never will.
    assert_closes(&server, &masked(false, TEXT, b"bad \xFF"), 1007);
    let begun = [frames::head(0x81, true, 1000), masked(true, TEXT, b"\xFF\xFE")[6..].to_vec()];
    assert_closes(&server, &begun.concat(), 1007);
    let bad_reason = [&1000_u16.to_be_bytes()[..], b"\xFF"].concat();
    assert_closes(&server, &masked(true, CLOSE, &bad_reason), 1007);
}

/// A message beyond the limit closes its client with 1009, whole or in fragments.
#[test]
fn a_message_past_the_limit_closes_1009() {
    let server = Server::start(&["--echo", "--max-message-size", "1KiB"]);
    let mut client = echo(&server);
    client.send(masked(true, BINARY, &[0; 1024]));
    assert_eq!(client.message().payload.len(), 1024);
    // The head alone is enough to know.
    client.send(frames::head(0x82, true, 1025));
    client.assert_closed(1009);

    let mut client = echo(&server);
    client.send(masked(false, BINARY, &[0; 1000]));
    client.send(masked(true, CONTINUATION, &[0; 25]));
    client.assert_closed(1009);

    let mut client = Client::connect(server.addr());
    client.send(frames::head(0x81, true, u64::MAX >> 1));
    client.assert_closed(1009);
}

/// A Close frame is answered with the client's code, and then the server ends the connection.
#[test]
fn a_close_is_echoed_and_the_connection_ends() {
    let server = echo_server();
    for code in [1000, 1001, 1003, 1011, 3000, 4999] {
        for target in ["/echo", "/ws"] {
            let mut client = Client::open(server.addr(), target);
            client.send(frames::masked_close(code, "bye"));
            assert_eq!(client.close_frame().0, code);
            client.assert_end();
        }
    }
    let mut client = echo(&server);
    client.send(masked(true, CLOSE, b""));
    let code = client.close_frame().0;
    assert!(matches!(code, 1000 | 1005), "no code is answered with none, or 1000: {code}");
    client.assert_end();
}

#[test]
fn messages_before_a_close_are_echoed_before_it() {
    let server = echo_server();
    let mut client = echo(&server);
    let mut bytes: Vec<u8> = (0..50).flat_map(|_| masked(true, TEXT, &[b'e'; 1000])).collect();
    bytes.extend(frames::masked_close(1000, ""));
    client.send(bytes);
    let (texts, (code, _)) = client.texts_until_close();
    assert_eq!((texts.len(), code), (50, 1000));
    client.assert_end();
}

#[test]
fn a_client_that_vanishes_is_forgotten() {
    let server = echo_server();
    let client = Client::connect(server.addr());
    drop(client);
    let mut half = Client::connect(server.addr());
    half.send(frames::head(0x81, true, 100));
    half.http.finish();
    assert!(matches!(half.event(), Event::Frame(_) | Event::Eof | Event::Reset));
    eventually(PATIENCE, "both are gone", || {
        metric(server.addr(), "wsbcast_connections", &[]) == 0.0
    });
}
