//! The query of a request's target: the property stands in `src/http/routes/query/fuzzing.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wsbcast::fuzzing::queries(input));
