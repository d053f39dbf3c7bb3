//! PROXY headers, by which a proxy names the client: the property stands in `src/peer/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::proxy_headers(input));
