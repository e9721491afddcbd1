//! Holds back the bytes of a client until they are known to be sound, and releases them in order.
//!
//! In: bytes from the socket ([`Inbound::push`]). Out: released bytes ([`Inbound::take`]), which
//! never reach beyond one request: the next head is judged only when [`Inbound::advance`] is asked
//! to, so that a parser behind this sees one request at a time even of a client that pipelines.
//! What can fail: a head or a body is refused; then nothing more is released.

use bytes::{Buf, BytesMut};

use super::body::{BodyFollower, BodyRefusal};
use super::head::{self, Framing, HEAD_BYTES_MAX, HeadRefusal};

/// Why no more bytes are released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(transparent)]
    Head(#[from] HeadRefusal),
    #[error(transparent)]
    Body(#[from] BodyRefusal),
}

/// What [`Inbound::advance`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// A head is released.
    Head,
    /// Bytes of a body are released.
    Body,
    /// More bytes are needed.
    Starved,
}

/// The bytes of one client.
#[derive(Debug)]
pub(crate) struct Inbound {
    buffer: BytesMut,
    /// How many bytes at the front of `buffer` are released.
    released: usize,
    /// How far `buffer` has been searched for the end of a head, so that a head that comes byte
    /// by byte costs no more than one that comes whole.
    searched: usize,
    body: BodyFollower,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            released: 0,
            searched: 0,
            body: BodyFollower::new(Framing::Length(0)),
        }
    }

    /// Adds bytes from the socket.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// How many bytes are held, released or not.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the next byte, if any, belongs to a new request.
    pub(crate) fn is_between_requests(&self) -> bool {
        self.released == 0 && self.body.is_done()
    }

    /// The released bytes that have not been taken.
    pub(crate) fn released(&self) -> &[u8] {
        &self.buffer[..self.released]
    }

    /// Takes `count` of the released bytes.
    pub(crate) fn take(&mut self, count: usize) {
        let count = count.min(self.released);
        self.buffer.advance(count);
        self.released -= count;
        if self.buffer.is_empty() {
            // An idle connection holds no memory.
            self.buffer = BytesMut::new();
        }
    }

    /// Releases what can be released. To be called when all that was released is taken.
    pub(crate) fn advance(&mut self) -> Result<Progress, Refusal> {
        if self.body.is_done() {
            return self.release_head();
        }
        self.released = self.body.follow(&self.buffer)?;
        Ok(if self.released > 0 {
            Progress::Body
        } else {
            Progress::Starved
        })
    }

    fn release_head(&mut self) -> Result<Progress, Refusal> {
        // RFC 9112, 2.2: empty lines before a request line are to be ignored.
        while self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
        }
        match &self.buffer[..] {
            [] | [b'\r'] => return Ok(Progress::Starved),
            [first, ..] if first.is_ascii_alphabetic() => {}
            _ => return Err(HeadRefusal::Malformed.into()),
        }
        let Some(end) = self.head_end() else {
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(HeadRefusal::TooLarge.into());
            }
            return Ok(Progress::Starved);
        };
        if end > HEAD_BYTES_MAX {
            return Err(HeadRefusal::TooLarge.into());
        }
        let framing = head::judge(&self.buffer[..end])?;
        self.body = BodyFollower::new(framing);
        self.released = end;
        self.searched = 0;
        Ok(Progress::Head)
    }

    /// Where the head ends: behind the first empty line, however its lines end.
    fn head_end(&mut self) -> Option<usize> {
        let from = self.searched.saturating_sub(2);
        let rest = &self.buffer[from..];
        let end = rest
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'\n')
            .find_map(|(at, _)| match &rest[at + 1..] {
                [b'\n', ..] => Some(from + at + 2),
                [b'\r', b'\n', ..] => Some(from + at + 3),
                _ => None,
            });
        self.searched = self.buffer.len();
        end
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The requests among `bytes`, which arrive in pieces of `piece` bytes.
    fn requests(bytes: &[u8], piece: usize) -> Result<Vec<String>, Refusal> {
        let mut inbound = Inbound::new();
        let mut found: Vec<String> = Vec::new();
        for part in bytes.chunks(piece) {
            inbound.push(part);
            loop {
                let progress = inbound.advance()?;
                let released = String::from_utf8_lossy(inbound.released());
                match progress {
                    Progress::Starved => break,
                    Progress::Head => found.push(released.into_owned()),
                    Progress::Body => found.last_mut().unwrap().push_str(&released),
                }
                inbound.take(usize::MAX);
            }
        }
        Ok(found)
    }

    const STREAM: &[&str] = &[
        "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nGET ",
        "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\r\n\r\n0\r\n\r\n",
        "GET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    ];

    #[test]
    fn pipelined_requests_are_told_apart_wherever_the_bytes_are_cut() {
        let stream = STREAM.concat();
        for piece in 1..=stream.len() {
            assert_eq!(
                requests(stream.as_bytes(), piece).unwrap(),
                STREAM,
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn empty_lines_before_a_request_are_ignored() {
        let stream = format!("\r\n\r\n{}\r\n{}", STREAM[0], STREAM[3]);
        for piece in 1..=stream.len() {
            let found = requests(stream.as_bytes(), piece).unwrap();
            assert_eq!(found, [STREAM[0], STREAM[3]], "pieces of {piece}");
        }
    }

    #[test]
    fn bytes_that_cannot_begin_a_request_are_refused_at_once() {
        for bytes in [&b"\x16\x03\x01"[..], b"\n", b" GET", b"\0"] {
            assert_eq!(
                requests(bytes, 8),
                Err(HeadRefusal::Malformed.into()),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_head_that_ends_in_bare_line_feeds_is_refused() {
        let refusal = Err(HeadRefusal::BareLf.into());
        assert_eq!(requests(b"GET / HTTP/1.1\nHost: a\n\n", 5), refusal);
        assert_eq!(requests(b"GET / HTTP/1.1\r\nHost: a\n\r\n", 5), refusal);
    }

    #[test]
    fn a_head_without_end_is_refused_when_it_is_too_large() {
        let endless = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(HEAD_BYTES_MAX));
        assert_eq!(
            requests(endless.as_bytes(), 1_000),
            Err(HeadRefusal::TooLarge.into())
        );
        let ended = format!("{endless}\r\n\r\n");
        assert_eq!(
            requests(ended.as_bytes(), 100_000),
            Err(HeadRefusal::TooLarge.into())
        );
    }

    #[test]
    fn an_idle_connection_holds_no_bytes() {
        let mut inbound = Inbound::new();
        inbound.push(STREAM[0].as_bytes());
        inbound.advance().unwrap();
        inbound.take(usize::MAX);
        assert_eq!(inbound.buffer.capacity(), 0);
        assert!(inbound.is_between_requests());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            piece in 1usize..50,
        ) {
            let stream = [STREAM[0].as_bytes(), &bytes].concat();
            let _ = requests(&stream, piece);
        }
    }
}
