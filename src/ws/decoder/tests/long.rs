//! A message as long as the conformance suite sends them, in as many fragments.

use super::*;

/// Sixteen mebibytes in 65,536 fragments are one message.
#[test]
fn sixteen_mib_in_65_536_fragments_are_one_message() {
    let rules = FrameRules { message_bytes_max: 16 << 20, keep_payload: true, compression: false };
    let fragment = [b'*'; 256];
    let mut bytes = frame(0x01, &fragment);
    for _ in 1..65_535 {
        bytes.extend(frame(0x00, &fragment));
    }
    bytes.extend(frame(0x80, &fragment));
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(65_536) {
        events.extend(feed(&mut decoder, piece, &rules).0);
    }
    let [Event::Message { kind: Kind::Text, len, data, .. }] = events.as_slice() else {
        panic!("{} events", events.len());
    };
    assert_eq!((*len, data.len()), (16 << 20, 16 << 20));
    assert!(data.iter().all(|byte| *byte == b'*'));
}
