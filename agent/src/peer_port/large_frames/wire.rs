//! How frames lie on a `basic-gossip/1` stream.
//!
//! ```text
//! stream = hello frame*        frame = length: u32 big-endian, then that many bytes
//! hello  = frame               whose bytes are the sender's advertised address as text
//! ```
//! The hello is there because the connection comes from a port that nobody can
//! answer to. It is taken at its word: what a frame may change is decided by
//! whoever opens its seal. A length of 0 or above [`FRAME_BYTES_MAX`] is refused
//! before anything is allocated for it.

use std::io;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame in bytes: as large as gossip makes them.
pub const FRAME_BYTES_MAX: usize = basic_membership::FRAME_LEN_MAX;
/// `[v6]:port` with a scope takes 58 characters.
const HELLO_BYTES_MAX: usize = 64;
const LENGTH_BYTES: usize = 4;

/// Why no frame could be read.
#[derive(Debug, Error)]
pub(super) enum ReadError {
    /// The stream ended between two frames.
    #[error("the stream has ended")]
    End,
    /// A length that no frame has.
    #[error("a frame of {0} bytes, where 1 to {1} are allowed")]
    Length(u32, usize),
    /// The hello is not an address.
    #[error("the first frame is not the address of its sender")]
    Hello,
    /// The stream broke, perhaps within a frame.
    #[error("the stream broke")]
    Io(#[from] io::Error),
}

pub(super) async fn write_hello(
    stream: &mut (impl AsyncWrite + Unpin),
    advertised: SocketAddr,
) -> io::Result<()> {
    write_frame(stream, advertised.to_string().as_bytes()).await
}

/// Writes one frame in one piece. The caller keeps to [`FRAME_BYTES_MAX`].
pub(super) async fn write_frame(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &[u8],
) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut bytes = BytesMut::with_capacity(LENGTH_BYTES + frame.len());
    bytes.put_u32(length);
    bytes.put_slice(frame);
    stream.write_all(&bytes).await?;
    stream.flush().await
}

pub(super) async fn read_hello(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<SocketAddr, ReadError> {
    let length = read_length(stream, HELLO_BYTES_MAX).await?;
    let hello = read_body(stream, length).await?;
    let text = std::str::from_utf8(&hello).map_err(|_| ReadError::Hello)?;
    text.parse().map_err(|_| ReadError::Hello)
}

/// Reads the length of the next frame; what follows is for [`read_body`].
pub(super) async fn read_length(
    stream: &mut (impl AsyncRead + Unpin),
    bytes_max: usize,
) -> Result<usize, ReadError> {
    let mut length = [0; LENGTH_BYTES];
    if stream.read(&mut length[..1]).await? == 0 {
        return Err(ReadError::End);
    }
    stream.read_exact(&mut length[1..]).await?;
    let length = u32::from_be_bytes(length);
    match usize::try_from(length) {
        Ok(bytes) if (1..=bytes_max).contains(&bytes) => Ok(bytes),
        _ => Err(ReadError::Length(length, bytes_max)),
    }
}

pub(super) async fn read_body(
    stream: &mut (impl AsyncRead + Unpin),
    length: usize,
) -> Result<Bytes, ReadError> {
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime")
            .block_on(future)
    }

    async fn read_all(mut bytes: &[u8]) -> (SocketAddr, Vec<Bytes>, ReadError) {
        let stream = &mut bytes;
        let hello = read_hello(stream).await.expect("a hello");
        let mut frames = Vec::new();
        loop {
            let frame = match read_length(stream, FRAME_BYTES_MAX).await {
                Ok(length) => read_body(stream, length).await,
                Err(error) => Err(error),
            };
            match frame {
                Ok(frame) => frames.push(frame),
                Err(error) => return (hello, frames, error),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_are_read_as_they_were_written(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..2000), 0..8),
            cut in 1_usize..LENGTH_BYTES + 1,
        ) {
            let advertised: SocketAddr = "[2001:db8::1]:9400".parse().expect("an address");
            block_on(async {
                let mut bytes = Vec::new();
                write_hello(&mut bytes, advertised).await.expect("memory");
                for frame in &frames {
                    write_frame(&mut bytes, frame).await.expect("memory");
                }
                let (hello, read, end) = read_all(&bytes).await;
                assert_eq!(hello, advertised);
                assert_eq!(read, frames);
                assert!(matches!(end, ReadError::End), "{end:?}");

                if let Some(last) = frames.last() {
                    let cut = cut.min(last.len());
                    let (_, read, end) = read_all(&bytes[..bytes.len() - cut]).await;
                    assert_eq!(read, frames[..frames.len() - 1]);
                    assert!(matches!(end, ReadError::Io(_)), "{end:?}");
                }
            });
        }

        #[test]
        fn no_bytes_make_the_reader_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            block_on(async {
                assert!(read_hello(&mut &bytes[..]).await.is_err());
                bytes.splice(0..0, *b"\0\0\0\x0b127.0.0.1:1");
                let (_, frames, _) = read_all(&bytes).await;
                assert!(frames.iter().map(|frame| frame.len() + LENGTH_BYTES).sum::<usize>() < 200);
            });
        }
    }

    #[test]
    fn a_length_above_the_bound_or_of_zero_is_refused() {
        block_on(async {
            let largest = u32::try_from(FRAME_BYTES_MAX).expect("small");
            for length in [0, largest + 1, u32::MAX] {
                let error = read_length(&mut &length.to_be_bytes()[..], FRAME_BYTES_MAX).await;
                assert!(
                    matches!(error, Err(ReadError::Length(l, _)) if l == length),
                    "{error:?}"
                );
            }
            let read = read_length(&mut &largest.to_be_bytes()[..], FRAME_BYTES_MAX).await;
            assert_eq!(read.expect("allowed"), FRAME_BYTES_MAX);
        });
    }

    #[test]
    fn a_hello_that_is_no_address_is_refused() {
        block_on(async {
            for hello in [
                "\0\0\0\x04n1:9",
                "\0\0\0\x02\u{7f}\u{7f}",
                "\0\0\0\x41127.0.0.1:1",
            ] {
                assert!(
                    read_hello(&mut hello.as_bytes()).await.is_err(),
                    "{hello:?}"
                );
            }
        });
    }
}
