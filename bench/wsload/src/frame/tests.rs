//! The parser against every split of its input.

use super::*;
use crate::stamp::STAMP_BYTES;

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(short as u8),
        medium @ 126..=0xffff => {
            bytes.push(126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn stamped(sequence: u32, size: usize) -> (Stamp, Vec<u8>) {
    let stamp = Stamp { run: 9, publisher: 3, sequence, intended_ns: 77 };
    let mut payload = vec![b'x'; size];
    stamp.encode(&mut payload);
    (stamp, payload)
}

fn text_of(event: &Event<'_>) -> String {
    format!("{event:?}")
}

fn read_in_pieces(pieces: &[&[u8]]) -> Result<Vec<String>, FrameError> {
    let mut reader = FrameReader::default();
    let mut events = Vec::new();
    for piece in pieces {
        reader.read(piece, &mut |event| events.push(text_of(&event)))?;
    }
    Ok(events)
}

fn message(stamp: Option<Stamp>, payload_bytes: u64) -> String {
    text_of(&Event::Message { stamp, payload_bytes })
}

#[test]
fn every_split_of_a_stream_gives_the_same_events() {
    let (first, first_payload) = stamped(0, STAMP_BYTES);
    let (second, second_payload) = stamped(1, 300);
    let (third, third_payload) = stamped(2, 200);
    let mut stream = frame(0x81, &first_payload);
    stream.extend(frame(0x82, &second_payload));
    stream.extend(frame(0x89, b"ping"));
    // A message in three fragments with a ping between them, and one without a payload.
    stream.extend(frame(0x01, &third_payload[..130]));
    stream.extend(frame(0x89, b""));
    stream.extend(frame(0x00, b""));
    stream.extend(frame(0x80, &third_payload[130..]));
    stream.extend(frame(0x81, b""));
    stream.extend(frame(0x8a, b"pong"));
    stream.extend(frame(0x88, &[0x03, 0xf5, b'b', b'y', b'e']));
    let expected = vec![
        message(Some(first), STAMP_BYTES as u64),
        message(Some(second), 300),
        text_of(&Event::Ping(b"ping")),
        text_of(&Event::Ping(b"")),
        message(Some(third), 200),
        message(None, 0),
        text_of(&Event::Close(Some(1013))),
    ];
    for split in 0..=stream.len() {
        let (left, right) = stream.split_at(split);
        assert_eq!(read_in_pieces(&[left, right]).as_ref(), Ok(&expected), "split at {split}");
    }
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    assert_eq!(read_in_pieces(&bytes), Ok(expected));
}

#[test]
fn a_message_counts_when_its_last_byte_arrives() {
    let (stamp, payload) = stamped(5, 70_000);
    let stream = frame(0x81, &payload);
    let (most, last) = stream.split_at(stream.len() - 1);
    assert_eq!(read_in_pieces(&[most]), Ok(vec![]));
    assert_eq!(read_in_pieces(&[most, last]), Ok(vec![message(Some(stamp), 70_000)]));
}

#[test]
fn foreign_messages_have_no_stamp() {
    assert_eq!(read_in_pieces(&[&frame(0x81, b"Periodic")]), Ok(vec![message(None, 8)]));
}

#[test]
fn a_server_that_breaks_the_protocol_is_noticed() {
    let broken: [&[u8]; 6] = [
        &[0xa1, 0x00],             // reserved bit
        &[0x81, 0x80, 0, 0, 0, 0], // masked
        &[0x80, 0x00],             // continuation of nothing
        &[0x01, 0x00, 0x81, 0x00], // new message inside a message
        &[0x09, 0x00],             // fragmented ping
        &[0x83, 0x00],             // reserved opcode
    ];
    for bytes in broken {
        assert!(read_in_pieces(&[bytes]).is_err(), "{bytes:?}");
    }
}

#[test]
fn answers_are_masked_control_frames() {
    assert_eq!(client_control(ControlOpcode::Pong, b"hi"), b"\x8a\x82\0\0\0\0hi");
    assert_eq!(client_control(ControlOpcode::Close, &[]), b"\x88\x80\0\0\0\0");
}
