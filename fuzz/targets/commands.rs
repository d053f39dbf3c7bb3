//! Commands of `wsbcast.v1`: the property stands in `src/conn/v1/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::commands(input));
