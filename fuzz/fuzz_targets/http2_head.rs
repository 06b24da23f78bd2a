//! See `weir_http::fuzzing::http2_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_http::fuzzing::http2_head(input));
