//! See `data_plane::fuzzing::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| data_plane::fuzzing::request_head(input));
