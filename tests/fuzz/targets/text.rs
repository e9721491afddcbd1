//! What clients give back as text, and the names that they choose.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basic_fuzz::check(basic_sync::fuzzing::text, bytes));
