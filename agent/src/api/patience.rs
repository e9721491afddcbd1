//! A connection that is given up when its peer takes nothing for too long.
//!
//! Who asks and then does not read would hold the connection, the answer under way and what
//! the kernel has taken of it for as long as it likes. So a write that makes no progress
//! for [`PATIENCE`] fails, which ends the connection. Time counts only while something
//! waits to be taken: a watch without changes may last.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a peer may take nothing.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's documentation.
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    /// Ends the wait under way; there is none while the peer takes what it gets.
    limit: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    pub(super) fn new(stream: S, patience: Duration) -> Self {
        Self {
            stream,
            patience,
            limit: None,
        }
    }

    /// What has come of a write, or the end of the wait for it.
    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.limit = None;
            return written;
        }
        let patience = self.patience;
        let limit = self.limit.get_or_insert_with(|| Box::pin(sleep(patience)));
        limit.as_mut().poll(context).map(|()| {
            let error = "the peer does not read what it asked for";
            Err(io::Error::new(io::ErrorKind::TimedOut, error))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.judge(flushed, context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_fails_when_nothing_was_taken_for_too_long() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Impatient::new(near, PATIENCE);
        let began = Instant::now();
        let writing = tokio::spawn(async move {
            let written = near.write_all(&[7; 32]).await;
            (written, began.elapsed())
        });
        // Each time just before patience is at its end.
        for _ in 0..2 {
            sleep(PATIENCE - Duration::from_secs(1)).await;
            far.read_exact(&mut [0; 8]).await.unwrap();
        }
        let (written, waited) = writing.await.unwrap();
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(waited >= 2 * (PATIENCE - Duration::from_secs(1)) + PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_sent_nothing_may_be_silent_for_any_time() {
        let (near, mut far) = tokio::io::duplex(8);
        let mut near = Impatient::new(near, PATIENCE);
        for _ in 0..3 {
            sleep(10 * PATIENCE).await;
            near.write_all(&[7; 8]).await.unwrap();
            far.read_exact(&mut [0; 8]).await.unwrap();
        }
    }
}
