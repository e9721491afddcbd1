//! The rows of a store.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basic_fuzz::check(basic_sync::fuzzing::record, bytes));
