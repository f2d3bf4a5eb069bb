//! Streams whose reads follow a rule. Writes pass unchanged.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connections::Connection;
use crate::limits::{GUEST_READ_BYTES, HANDSHAKE_BYTES_MAX};

/// Decides how a stream is read.
pub(super) trait ReadRule: Unpin {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>>;
}

/// A stream whose reads follow a rule.
pub(super) struct Ruled<S, R> {
    pub(super) stream: S,
    pub(super) rule: R,
}

impl<S: AsyncRead + Unpin, R: ReadRule> AsyncRead for Ruled<S, R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Ruled { stream, rule } = &mut *self;
        rule.poll_read(Pin::new(stream), cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, R: Unpin> AsyncWrite for Ruled<S, R> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Limits the bytes of a handshake.
pub(super) struct HandshakeBytes {
    /// Bytes that the handshake may still read. `None` once the handshake is complete.
    left: Option<usize>,
}

impl HandshakeBytes {
    pub(super) fn new() -> HandshakeBytes {
        HandshakeBytes {
            left: Some(HANDSHAKE_BYTES_MAX),
        }
    }

    /// Ends the limit, because the handshake is complete.
    pub(super) fn complete(&mut self) {
        self.left = None;
    }
}

impl ReadRule for HandshakeBytes {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(stream.poll_read(cx, buffer))?;
        let read = buffer.filled().len() - before;
        if let Some(left) = &mut self.left {
            let still = left.checked_sub(read);
            *left = still.ok_or_else(|| io::Error::other("the handshake is too long"))?;
        }
        Poll::Ready(Ok(()))
    }
}

/// Holds the place of a connection, and reads from a guest in small pieces.
pub(super) struct GuestPieces {
    place: Arc<Connection>,
    /// Whether the last read from a guest returned bytes.
    has_read: bool,
}

impl GuestPieces {
    pub(super) fn new(place: Arc<Connection>) -> GuestPieces {
        GuestPieces {
            place,
            has_read: false,
        }
    }
}

impl ReadRule for GuestPieces {
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: Pin<&mut S>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.place.is_proven() {
            return stream.poll_read(cx, buffer);
        }
        if std::mem::take(&mut self.has_read) {
            // Yields, so that the requests that were read begin before the next read.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let bytes = GUEST_READ_BYTES.min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(bytes));
        ready!(stream.poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        self.has_read = read > 0;
        Poll::Ready(Ok(()))
    }
}
