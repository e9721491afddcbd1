//! Questions and answers of stores that are compared.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basic_fuzz::check(
    basic_sync::fuzzing::comparison,
    bytes
));
