//! See `weir_http::fuzzing::chunked`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_http::fuzzing::chunked(input));
