//! What must hold of every decoder, whatever bytes it is given.
//!
//! In goes any input, out comes nothing, or a panic that says what is broken: a decoder
//! that panics, takes something for what it is not, or gives back other than what it was
//! given. One function for each kind of input; the fuzz targets (`tests/fuzz`), the replay
//! of their corpus and the tests with random bytes all call these. Agents do not contain
//! them: cargo-fuzz builds with `--cfg fuzzing`, which nothing else does.
//!
//! How much may be allocated is measured by those who call, against [`bytes_max`].

use std::fmt::{Debug, Display};
use std::str::FromStr;

use bytes::Bytes;

use crate::codec::{self, FRAME_BYTES_MAX, HELLO_BYTES_MAX, LENGTH_BYTES};
use crate::model::document::Revision;
use crate::model::{Collection, Key, Version};
use crate::net::Cursor;
pub use crate::storage::fuzzing::{record, segment};

/// One kind of input: the name of its target and of its corpus, and what must hold.
pub type Property = (&'static str, fn(&[u8]));

/// All kinds of input that this crate decodes.
pub const PROPERTIES: [Property; 5] = [
    ("frame", frame),
    ("comparison", comparison),
    ("record", record),
    ("segment", segment),
    ("text", text),
];

/// How much memory a property may hold at any moment for an input of this length, in
/// bytes. What is decoded is compared with what it becomes when it is encoded and decoded
/// again, so all of it is there twice.
pub fn bytes_max(length: usize) -> u64 {
    const FIXED: u64 = 64 * 1024;
    const PER_BYTE: u64 = 256;
    FIXED + PER_BYTE * length as u64
}

/// A frame without its length: a message, or the greeting of a connection.
pub fn frame(bytes: &[u8]) {
    if let Ok(message) = codec::decode_message(bytes) {
        let frame = codec::encode_message(&message);
        let same = frame_body(&frame, FRAME_BYTES_MAX, codec::decode_message);
        assert_eq!(same, message);
        // As a connection does it, where documents share the memory of the frame.
        let shared = codec::decode_message_of(&Bytes::copy_from_slice(bytes));
        assert_eq!(shared.ok(), Some(message));
    }
    if let Ok(hello) = codec::decode_hello(bytes) {
        let frame = codec::encode_hello(&hello);
        let same = frame_body(&frame, HELLO_BYTES_MAX, codec::decode_hello);
        assert_eq!(same, hello);
    }
}

/// A frame without its length of two stores that are compared: a question, or an answer.
pub fn comparison(bytes: &[u8]) {
    if let Ok(request) = codec::decode_request(bytes) {
        let frame = codec::encode_request(&request);
        let same = frame_body(&frame, FRAME_BYTES_MAX, codec::decode_request);
        assert_eq!(same, request);
    }
    if let Ok(answer) = codec::decode_answer(bytes) {
        let frame = codec::encode_answer(&answer);
        let same = frame_body(&frame, FRAME_BYTES_MAX, codec::decode_answer);
        assert_eq!(same, answer);
    }
}

/// Decodes a frame of ours, which must be whole and exact.
fn frame_body<T: Debug, E: Debug>(
    frame: &[u8],
    most: usize,
    decode: impl Fn(&[u8]) -> Result<T, E>,
) -> T {
    let (length, body) = frame
        .split_first_chunk::<LENGTH_BYTES>()
        .expect("a frame has a length");
    assert_eq!(codec::frame_length(*length, most), Ok(body.len()));
    exact(body, decode)
}

/// Decodes bytes of ours, of which none may lack and after which none may follow.
pub(crate) fn exact<T: Debug, E: Debug>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, E>) -> T {
    let longer = [bytes, &[0]].concat();
    assert!(decode(&longer).is_err(), "a byte after the end was taken");
    if let [shorter @ .., _] = bytes {
        assert!(decode(shorter).is_err(), "the last byte was not missed");
    }
    decode(bytes).expect("what was encoded can be decoded")
}

/// What clients give back that they were given as text, and the names that they choose.
pub fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    reads_back::<Cursor>(text);
    reads_back::<Version>(text);
    reads_back::<Revision>(text);
    if let Some((collection, name)) = text.split_once('/')
        && let Ok(collection) = Collection::new(collection)
        && let Ok(key) = Key::new(collection, name)
    {
        assert_eq!(format!("{key:?}"), text);
    }
}

fn reads_back<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let Ok(read) = text.parse::<T>() else {
        return;
    };
    let written = read.to_string();
    assert_eq!(written.parse::<T>().ok().as_ref(), Some(&read));
    for longer in [
        format!("{written}-"),
        format!("{written}-1-1"),
        format!(" {written}"),
    ] {
        assert!(longer.parse::<T>().is_err(), "{longer:?} was taken");
    }
}

#[cfg(test)]
mod tests;
