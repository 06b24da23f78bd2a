//! See `weir_snapshot::fuzzing::config_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_snapshot::fuzzing::config_file(input));
