//! Follows the body of a request to its exact end, and checks its chunks on the way.
//!
//! In: bytes as they come, cut anywhere. Out: how many of them belong to the body, and whether it
//! ends there. The bytes are neither changed nor kept. Chunked coding as in RFC 9112, 7.1, with
//! CR LF at every line end, sizes below 2^60, and bounds on extensions and trailers, which nobody
//! needs and which would otherwise have no end.

use super::head::Framing;

/// Most bytes of all extensions of one chunk.
const EXTENSION_BYTES_MAX: usize = 1024;

/// Most bytes of all trailers.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Most hexadecimal digits of a chunk size.
const SIZE_DIGITS_MAX: usize = 15;

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyRefusal {
    #[error("a chunk size is not a hexadecimal number below 2^60")]
    ChunkSize,
    #[error("a chunk does not end in CR LF where its size says")]
    ChunkEnd,
    #[error("a chunk extension is malformed or longer than 1 KiB")]
    ChunkExtension,
    #[error("the trailers are malformed or larger than 16 KiB")]
    Trailers,
}

/// Where in a body the next byte is.
#[derive(Debug)]
pub(crate) struct BodyFollower {
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// In a body of known length, with this much left.
    Length(u64),
    /// In the digits of a chunk size.
    Size {
        value: u64,
        digits: usize,
    },
    /// In the extensions of a chunk, with this many bytes behind.
    Extension {
        size: u64,
        length: usize,
    },
    /// Before the LF of a size line.
    SizeLf {
        size: u64,
    },
    /// In the data of a chunk, with this much left.
    Data(u64),
    /// Before the CR that ends a chunk.
    DataCr,
    /// Before the LF that ends a chunk.
    DataLf,
    /// Before a trailer line, or before the empty line that ends everything.
    TrailerBegin {
        length: usize,
    },
    /// In a trailer line. `length` counts the bytes of all trailers.
    Trailer {
        length: usize,
    },
    /// Before the LF of a trailer line.
    TrailerLf {
        length: usize,
    },
    /// Before the LF of the empty line.
    EndLf,
    Done,
}

impl BodyFollower {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size {
                value: 0,
                digits: 0,
            },
        };
        Self { state }
    }

    /// Whether the body has ended.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How many of `bytes` belong to the body.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<usize, BodyRefusal> {
        let mut rest = bytes;
        while let [first, behind @ ..] = rest {
            match self.state {
                State::Done => break,
                State::Length(left) => {
                    let (taken, left) = take(rest, left);
                    rest = taken;
                    self.state = if left == 0 {
                        State::Done
                    } else {
                        State::Length(left)
                    };
                }
                State::Data(left) => {
                    let (taken, left) = take(rest, left);
                    rest = taken;
                    self.state = if left == 0 {
                        State::DataCr
                    } else {
                        State::Data(left)
                    };
                }
                framing => {
                    self.state = framing.after(*first)?;
                    rest = behind;
                }
            }
        }
        Ok(bytes.len() - rest.len())
    }
}

/// What is behind the first `count` of `bytes`, and how many of `count` are still to come.
fn take(bytes: &[u8], count: u64) -> (&[u8], u64) {
    match usize::try_from(count) {
        Ok(count) if count <= bytes.len() => (&bytes[count..], 0),
        _ => (&[], count - bytes.len() as u64),
    }
}

impl State {
    /// The state behind one byte of framing.
    fn after(self, byte: u8) -> Result<State, BodyRefusal> {
        match (self, byte) {
            (State::Size { digits: 0, .. }, b'\r' | b';') => Err(BodyRefusal::ChunkSize),
            (State::Size { value, .. }, b'\r') => Ok(State::SizeLf { size: value }),
            (State::Size { value, .. }, b';') => Ok(State::Extension {
                size: value,
                length: 0,
            }),
            (State::Size { value, digits }, _) => {
                let digit = char::from(byte)
                    .to_digit(16)
                    .ok_or(BodyRefusal::ChunkSize)?;
                if digits == SIZE_DIGITS_MAX {
                    return Err(BodyRefusal::ChunkSize);
                }
                Ok(State::Size {
                    value: value * 16 + u64::from(digit),
                    digits: digits + 1,
                })
            }
            (State::Extension { size, .. }, b'\r') => Ok(State::SizeLf { size }),
            (State::Extension { size, length }, byte)
                if is_text(byte) && length < EXTENSION_BYTES_MAX =>
            {
                Ok(State::Extension {
                    size,
                    length: length + 1,
                })
            }
            (State::Extension { .. }, _) => Err(BodyRefusal::ChunkExtension),
            (State::SizeLf { size: 0 }, b'\n') => Ok(State::TrailerBegin { length: 0 }),
            (State::SizeLf { size }, b'\n') => Ok(State::Data(size)),
            (State::SizeLf { .. }, _) => Err(BodyRefusal::ChunkSize),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size {
                value: 0,
                digits: 0,
            }),
            (State::DataCr | State::DataLf, _) => Err(BodyRefusal::ChunkEnd),
            (State::TrailerBegin { .. }, b'\r') => Ok(State::EndLf),
            (State::Trailer { length }, b'\r') => Ok(State::TrailerLf { length }),
            (State::TrailerBegin { length } | State::Trailer { length }, byte)
                if is_text(byte) && length < TRAILER_BYTES_MAX =>
            {
                Ok(State::Trailer { length: length + 1 })
            }
            (State::TrailerLf { length }, b'\n') => Ok(State::TrailerBegin { length }),
            (State::EndLf, b'\n') => Ok(State::Done),
            (
                State::TrailerBegin { .. }
                | State::Trailer { .. }
                | State::TrailerLf { .. }
                | State::EndLf,
                _,
            ) => Err(BodyRefusal::Trailers),
            // `follow` takes these in runs and never byte by byte.
            (State::Length(_) | State::Data(_) | State::Done, _) => Ok(self),
        }
    }
}

/// What may stand in an extension or a trailer: anything but control characters, tab excepted.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= 0x20 && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Follows `bytes` cut into pieces of `piece` bytes: where the body ended, if it did.
    fn end_of(framing: Framing, bytes: &[u8], piece: usize) -> Result<Option<usize>, BodyRefusal> {
        let mut follower = BodyFollower::new(framing);
        let mut end = 0;
        for part in bytes.chunks(piece) {
            let taken = follower.follow(part)?;
            end += taken;
            if taken < part.len() {
                break;
            }
        }
        Ok(follower.is_done().then_some(end))
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let cases: &[(Framing, &str, Option<usize>)] = &[
            (Framing::Length(0), "GET /", Some(0)),
            (Framing::Length(3), "abcGET /", Some(3)),
            (Framing::Length(3), "ab", None),
            (Framing::Chunked, "0\r\n\r\nGET /", Some(5)),
            (Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nGET /", Some(13)),
            (
                Framing::Chunked,
                "00A;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
                Some(28),
            ),
            (Framing::Chunked, "0\r\na: b\r\nc: d\r\n\r\nGET", Some(17)),
            (Framing::Chunked, "3\r\nabc\r\n", None),
        ];
        for (framing, bytes, end) in cases {
            for piece in 1..=bytes.len() {
                assert_eq!(
                    end_of(*framing, bytes.as_bytes(), piece),
                    Ok(*end),
                    "{bytes:?}"
                );
            }
        }
    }

    #[test]
    fn every_malformed_chunk_has_its_one_refusal() {
        use BodyRefusal as R;
        let cases: &[(&str, BodyRefusal)] = &[
            ("\r\n", R::ChunkSize),
            ("x\r\n", R::ChunkSize),
            ("-1\r\n", R::ChunkSize),
            ("0x1\r\na\r\n", R::ChunkSize),
            ("1 \r\na\r\n", R::ChunkSize),
            ("1\na\r\n", R::ChunkSize),
            ("1\r\r\na", R::ChunkSize),
            ("FFFFFFFFFFFFFFFFF\r\n", R::ChunkSize),
            (";x\r\n", R::ChunkSize),
            ("1;a\n0\r\n\r\n", R::ChunkExtension),
            ("1\r\nab\r\n", R::ChunkEnd),
            ("1\r\na\n0\r\n\r\n", R::ChunkEnd),
            ("1\r\na\r0", R::ChunkEnd),
            ("0\r\na: b\n\r\n", R::Trailers),
            ("0\r\n\0", R::Trailers),
            ("0\r\n\rx", R::Trailers),
        ];
        for (bytes, refusal) in cases {
            for piece in 1..=bytes.len() {
                let verdict = end_of(Framing::Chunked, bytes.as_bytes(), piece);
                assert_eq!(verdict, Err(*refusal), "{bytes:?}");
            }
        }
    }

    #[test]
    fn extensions_and_trailers_have_an_end() {
        let extension = format!("1;{}\r\n", "x".repeat(EXTENSION_BYTES_MAX + 1));
        let verdict = end_of(Framing::Chunked, extension.as_bytes(), 100);
        assert_eq!(verdict, Err(BodyRefusal::ChunkExtension));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX));
        let verdict = end_of(Framing::Chunked, trailers.as_bytes(), 100);
        assert_eq!(verdict, Err(BodyRefusal::Trailers));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(
            bytes in prop::collection::vec(
                prop_oneof![Just(b'0'), Just(b'2'), Just(b'\r'), Just(b'\n'), Just(b';'), any::<u8>()],
                0..60,
            ),
            piece in 1usize..10,
        ) {
            let whole = end_of(Framing::Chunked, &bytes, 64);
            prop_assert_eq!(end_of(Framing::Chunked, &bytes, piece), whole);
        }

        #[test]
        fn any_chunks_are_followed_to_their_end(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..20),
            piece in 1usize..70,
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                bytes.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
            let end = bytes.len();
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(end_of(Framing::Chunked, &bytes, piece), Ok(Some(end)));
        }
    }
}
