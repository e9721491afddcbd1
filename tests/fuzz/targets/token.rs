//! Session tokens. They are the agent's, of which only their own file is compiled here: the
//! whole of it would take minutes, and say nothing more about them.
#![no_main]

#[allow(dead_code)]
#[path = "../../../agent/src/sessions.rs"]
mod sessions;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| basic_fuzz::check(sessions::fuzzing::token, bytes));
