//! See `weir_http::fuzzing::request_head`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_http::fuzzing::request_head(input));
