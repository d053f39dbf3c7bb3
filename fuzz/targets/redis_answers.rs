//! Redis' answers, stored entries and publications: the property stands in
//! `src/broker/redis/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::redis_answers(input));
