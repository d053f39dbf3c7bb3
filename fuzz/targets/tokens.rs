//! Tokens and sets of keys: the property stands in `src/token/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::tokens(input));
