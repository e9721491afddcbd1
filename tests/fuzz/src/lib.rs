//! What the fuzz targets have in common.
//!
//! A target is the name of a property: what must hold of any input stands beside the
//! decoders (`sync/src/fuzzing.rs`, `agent/src/sessions.rs`), where ordinary tests call it
//! too, with the inputs in `corpus/` and with random ones. Run a target by
//! `scripts/soak fuzz`, or by `cargo +nightly fuzz run --fuzz-dir tests/fuzz -s none NAME`.
#![forbid(unsafe_code)]

/// Holds a property to an input, and to its bound on memory.
///
/// # Panics
/// Where either is broken; libFuzzer keeps the input.
pub fn check(property: fn(&[u8]), bytes: &[u8]) {
    // A panic ends the process, so what is measured is never left half-way.
    let used = allocation_counter::measure(|| property(bytes));
    let most = basic_sync::fuzzing::bytes_max(bytes.len());
    assert!(
        used.bytes_max <= most,
        "{} bytes of memory for {} bytes, and at most {most} are allowed",
        used.bytes_max,
        bytes.len()
    );
}
