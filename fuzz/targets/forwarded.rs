//! The headers by which proxies name the client: the property stands in `src/peer/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::forwarded(input));
