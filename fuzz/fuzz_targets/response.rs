//! See `weir_http::fuzzing::response`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_http::fuzzing::response(input));
