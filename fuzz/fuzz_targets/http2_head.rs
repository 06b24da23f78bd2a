//! See `data_plane::fuzzing::http2_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| data_plane::fuzzing::http2_head(input));
