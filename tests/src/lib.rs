//! What the suites share: see [`harness`].
//!
//! Nothing depends on this package. It drives the product from outside, as a
//! user does: real binaries, real sockets, the real scripts. Only the suites
//! beside it (`integration`, `simulation`) may name our other crates.

#![forbid(unsafe_code)]

pub mod harness;
