//! Records that come in pieces, many at once, torn, or with new keys.

use super::*;

/// The plaintext is the same in whatever pieces its records come, and nothing is held after.
#[test]
fn records_are_read_in_any_pieces() {
    for version in BOTH {
        let world = world(version);
        for piece in [1, 2, 5, 100, 1001, 20_000] {
            let mut pair = Pair::new(&world, "one.test");
            pair.piece = piece;
            pair.talk().unwrap();
            let said: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
            for part in said.chunks(17_000) {
                pair.client.writer().write_all(part).unwrap();
                pair.talk().unwrap();
            }
            assert!(pair.heard == said, "pieces of {piece}");
            assert_eq!(pair.held(), 0);
        }
    }
}

/// Plaintext that was not asked for is kept, and given before anything else is read.
#[test]
fn plaintext_that_has_no_room_is_kept() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    pair.client.writer().write_all(&[7; 2500]).unwrap();
    pair.client_turn();
    // No more is read at once than can be given, so the record comes in three pieces.
    assert_eq!(pair.read().unwrap(), Input::Nothing);
    assert_eq!(pair.read().unwrap(), Input::Nothing);
    assert_eq!(pair.read().unwrap(), Input::Plaintext(1000));
    assert!(pair.session.has_plaintext() && pair.held() >= 1500);
    assert_eq!(pair.read().unwrap(), Input::Plaintext(1000));
    assert_eq!(pair.read().unwrap(), Input::Plaintext(500));
    assert!(pair.heard == [7; 2500] && pair.held() == 0);
    assert_eq!(pair.read().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// However many records have come, those are not taken from the socket for which there is no room.
#[test]
fn records_that_have_no_room_stay_in_the_socket() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    for _ in 0..20 {
        pair.client.writer().write_all(&[7; 800]).unwrap();
    }
    pair.client_turn();
    let mut heard = 0;
    while heard < 20 * 800 {
        match pair.read().unwrap() {
            Input::Plaintext(count) => heard += count,
            other => assert_eq!(other, Input::Nothing),
        }
        assert!(pair.held() <= 2 * 1024, "{}", pair.held());
    }
    assert_eq!(pair.held(), 0);
}

/// A client may change its keys, and ask for the same, as often as the library lets it; content
/// goes on both ways.
#[test]
fn keys_change_at_any_time() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    for round in 0..10 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.client.writer().write_all(&[round]).unwrap();
        pair.talk().unwrap();
        assert_eq!(pair.heard.pop(), Some(round));
        assert_eq!(pair.write(&[&[round; 3]]).unwrap(), 3);
        assert_eq!(pair.client_heard(), [round; 3]);
    }
    assert_eq!(pair.held(), 0);
}

#[test]
fn a_changed_record_ends_the_session_with_an_alert() {
    for version in BOTH {
        let mut pair = Pair::greeted(&world(version));
        pair.client.writer().write_all(b"content").unwrap();
        pair.client_turn();
        *pair.up.last_mut().unwrap() ^= 1;
        assert_eq!(pair.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert!(pair.session.has_unsent(), "an alert");
        pair.flush().unwrap();
        pair.client.read_tls(&mut &pair.down[..]).unwrap();
        let told = pair.client.process_new_packets().unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
    }
}

/// An end without a farewell is an end; the beginning of a record before it is thrown away.
#[test]
fn an_end_within_a_record_is_an_end() {
    let mut pair = Pair::greeted(&world(&version::TLS13));
    pair.client.writer().write_all(b"content").unwrap();
    pair.client_turn();
    pair.up.pop();
    assert_eq!(pair.read().unwrap(), Input::Nothing);
    assert!(pair.session.has_unfinished_record());
    let end = pair.session.read(&mut pair.scratch, &mut [0; 9], |_| Ok(0));
    assert_eq!(end.unwrap(), Input::End);
    assert_eq!(pair.held(), 0);
}

/// Something that is no TLS at all is an error, whatever it is.
#[test]
fn noise_is_an_error() {
    let world = world(&version::TLS13);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..200 {
        let mut pair = Pair::new(&world, "one.test");
        pair.up = std::iter::repeat_with(|| random.u8(..)).take(20_000).collect();
        let end = loop {
            match pair.read() {
                Ok(Input::Nothing) => {}
                other => break other,
            }
        };
        let kind = end.unwrap_err().kind();
        assert!(matches!(kind, io::ErrorKind::InvalidData | io::ErrorKind::WouldBlock), "{kind}");
        assert!(pair.held() <= TLS_HANDSHAKE_BYTES_MAX);
    }
}
