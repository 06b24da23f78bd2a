//! See `weir_snapshot::fuzzing::pieces`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_snapshot::fuzzing::pieces(input));
