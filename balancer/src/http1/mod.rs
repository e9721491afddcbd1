//! Which bytes of a client are one request with one meaning. Sans-IO: bytes in, verdicts out.
//!
//! Two parsers that read the same bytes differently are what request smuggling lives on. So
//! nothing reaches the parser of the data plane (hyper, for now) before it has passed here: a head
//! is judged whole (`head.rs`), and its body is followed to its exact end (`body.rs`), so that the
//! next head is known to be one. What is stricter here than in hyper 1.12: `Content-Length` with
//! `Transfer-Encoding` or twice, codings other than `chunked`, bare LF, `Host` missing, double or
//! malformed, a target that names another host, control bytes.
//!
//! What can fail is a [`Refusal`], of a head or of a body; either ends the connection. When a codec
//! of our own replaces hyper's, it grows from these files.

mod body;
mod head;
mod inbound;

pub(crate) use head::HEAD_BYTES_MAX;
pub(crate) use inbound::{Inbound, Progress, Refusal};
