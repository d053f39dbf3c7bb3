//! Frames from Redis: the property stands in `src/broker/redis/net/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::redis_frames(input));
