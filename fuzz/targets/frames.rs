//! A client's bytes, in one piece and cut in two anywhere: the decoder gives the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wsbcast::ws::decoder::{Decoder, FrameRules};

/// What came of it, and how it ended.
type Verdict = (Vec<String>, Option<String>);

fn feed(decoder: &mut Decoder, bytes: &[u8], rules: &FrameRules, verdict: &mut Verdict) {
    let mut input = bytes.to_vec();
    let mut start = 0;
    while verdict.1.is_none() {
        match decoder.next(&mut input[start..], rules) {
            Ok((used, Some(event))) => {
                start += used;
                verdict.0.push(format!("{event:?}"));
            }
            Ok((used, None)) => {
                assert_eq!(start + used, bytes.len(), "input was left over");
                return;
            }
            Err(reason) => verdict.1 = Some(format!("{reason:?}")),
        }
    }
}

fuzz_target!(|input: (u8, bool, bool, &[u8])| {
    let (cut, keep_payload, compression, bytes) = input;
    let rules = FrameRules { message_bytes_max: 70_000, keep_payload, compression };
    let (mut whole, mut parts) = (Verdict::default(), Verdict::default());
    feed(&mut Decoder::default(), bytes, &rules, &mut whole);
    let (first, second) = bytes.split_at(usize::from(cut).min(bytes.len()));
    let mut decoder = Decoder::default();
    feed(&mut decoder, first, &rules, &mut parts);
    feed(&mut decoder, second, &rules, &mut parts);
    assert_eq!(whole, parts);
});
