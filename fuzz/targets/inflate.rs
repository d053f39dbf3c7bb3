//! A client's compressed message: the property stands in `src/ws/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::inflate(input));
