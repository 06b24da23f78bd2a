//! See `weir_snapshot::fuzzing::paths`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_snapshot::fuzzing::paths(input));
