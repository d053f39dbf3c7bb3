//! Records that the socket takes in part: nothing is lost, nothing is said twice.

use super::*;
use crate::limits::{TLS_WRITE_BYTES_MAX, TLS_WRITE_EXTRA_BYTES, TLS12_RECORDS_MAX};

/// A key of TLS 1.2 is worn after so many records; those of TLS 1.3 change.
#[test]
fn a_key_that_cannot_change_is_worn_by_its_records() {
    for version in BOTH {
        let mut pair = Pair::greeted(&world(version));
        pair.session.age(TLS12_RECORDS_MAX - 1);
        assert!(!pair.session.is_worn());
        assert_eq!(pair.write(&[b"one"]).unwrap(), 3);
        assert_eq!(pair.session.is_worn(), version.version == ProtocolVersion::TLSv1_2);
    }
}

/// The client gets each byte once, whatever the socket takes of it; at most a record is kept.
#[test]
fn short_writes_lose_nothing() {
    let mut random = fastrand::Rng::with_seed(11);
    for version in BOTH {
        let mut pair = Pair::greeted(&world(version));
        let said: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
        let (mut at, mut heard) = (0, Vec::new());
        while at < said.len() {
            pair.room = random.usize(0..12_000);
            // As a log or an outbox offers them: from where it stands, in slices.
            let end = said.len().min(at + 2 + random.usize(0..30_000));
            let cut = at + random.usize(0..=end - at);
            match pair.write(&[&said[at..cut], &said[cut..end]]) {
                Ok(count) => {
                    assert!((1..=end - at).contains(&count));
                    at += count;
                }
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            assert!(pair.held() <= TLS_WRITE_BYTES_MAX + TLS_WRITE_EXTRA_BYTES);
            heard.extend(pair.client_heard());
        }
        pair.room = usize::MAX;
        pair.flush().unwrap();
        heard.extend(pair.client_heard());
        assert!(heard == said);
        assert_eq!(pair.held(), 0);
    }
}

/// A writer learns in the ordinary way that something is left: not everything is written.
#[test]
fn a_full_socket_leaves_one_byte_to_be_offered_again() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    pair.room = 10;
    assert_eq!(pair.write(&[b"content"]).unwrap(), 6, "it is all on its way, and not done");
    assert_eq!(pair.write(&[b"t"]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    pair.room = usize::MAX;
    assert_eq!(pair.write(&[b"t"]).unwrap(), 1);
    assert_eq!(pair.client_heard(), b"content");
    // A socket that takes nothing at all of a single byte: it is asked again, and says so itself.
    pair.room = 0;
    assert_eq!(pair.write(&[b"x"]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    pair.room = usize::MAX;
    assert_eq!(pair.write(&[b"xyz"]).unwrap(), 3);
    assert_eq!(pair.client_heard(), b"xyz");
}

/// A socket registers who waits for room when it says that it has none; until then nobody waits.
#[test]
fn only_the_socket_says_that_it_is_full() {
    let Pair { mut session, mut scratch, .. } = Pair::greeted(&world(&version::TLS13));
    let mut answers = vec![];
    let written = session.write(&[IoSlice::new(b"x")], &mut scratch, &mut |record: &[u8]| {
        let has_room = answers.is_empty();
        answers.push(has_room);
        if has_room { Ok(record.len() / 2) } else { Err(io::ErrorKind::WouldBlock.into()) }
    });
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(answers, [true, false]);
    // One whose room is there by the time it is asked again.
    let Pair { mut session, mut scratch, .. } = Pair::greeted(&world(&version::TLS13));
    let halves = &mut |record: &[u8]| Ok(record.len().div_ceil(2));
    assert_eq!(session.write(&[IoSlice::new(b"x")], &mut scratch, halves).unwrap(), 1);
    assert!(!session.has_unsent());
}

/// A writer that is told of all bytes but the last one may go on with another frame when that byte
/// is a frame's first one. So no record that is cut ends there, and a frame may follow each.
#[test]
fn a_cut_record_ends_on_no_frames_first_byte() {
    let [message, event] = [&[0x81, 125], &b"id"[..]].map(|begin| {
        let mut frame = begin.to_vec();
        frame.resize(125, b'x');
        [&frame[..], b"\n\n"].concat()
    });
    for (frame, other) in [(message, &[0x89, 0][..]), (event, b":\n\n")] {
        let frames = frame.repeat(400);
        for room in (0..40_000).step_by(250) {
            let mut pair = Pair::greeted(&world(&version::TLS13));
            pair.room = room;
            let mut done = match pair.write(&[&frames[..20_000], &frames[20_000..]]) {
                Ok(count) => count,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    0
                }
            };
            pair.room = usize::MAX;
            // As the hub does: the begun frame, another one, and the rest.
            let begun = done.next_multiple_of(frame.len());
            let parts = [&frames[done..begun], other, &frames[begun..]];
            done += pair.write(&parts).expect("a frame where one may be");
            assert_eq!(done, frames.len() + other.len());
            let expected = [&frames[..begun], other, &frames[begun..]].concat();
            assert!(pair.client_heard() == expected, "{room} bytes of room");
        }
    }
}

/// Bytes in place of those that were begun would tear the stream.
#[test]
fn other_bytes_than_those_begun_are_refused() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    pair.room = 10;
    assert_eq!(pair.write(&[b"content"]).unwrap(), 6);
    pair.room = usize::MAX;
    assert_eq!(pair.write(&[b"other"]).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// An answer to a change of keys is sent before content, also when the socket is full between them.
#[test]
fn new_keys_come_before_content() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    pair.client.refresh_traffic_keys().unwrap();
    pair.talk().unwrap();
    pair.room = 3;
    let first = pair.write(&[b"content"]);
    assert!(matches!(first, Ok(6)) || first.unwrap_err().kind() == io::ErrorKind::WouldBlock);
    pair.room = usize::MAX;
    pair.write(&[b"t"]).unwrap();
    assert_eq!(pair.client_heard(), b"content");
}

#[test]
fn a_broken_socket_is_told() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    let broken = &mut |_: &[u8]| Err(io::ErrorKind::BrokenPipe.into());
    let error = pair.session.write(&[IoSlice::new(b"x")], &mut pair.scratch, broken).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}
