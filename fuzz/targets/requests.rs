//! The bytes of an HTTP connection: the property stands in `src/http/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::requests(input));
