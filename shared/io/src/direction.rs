//! One direction of a copy: a small state machine that is polled with its reader and its writer.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::copy::Operation;
use crate::scratch;

/// How many buffers one poll may move before it lets other tasks run; 1 MiB keeps a poll well below a millisecond.
const ROUNDS_PER_POLL: usize = 16;

/// Which operation failed, and how.
pub(crate) type Failure = (Operation, io::Error);

/// What is left to do in this direction.
#[derive(Debug)]
enum Phase {
    /// Reading and writing.
    Copying,
    /// The reader has ended; what it gave must be written and the end passed on.
    Ending,
    /// Nothing.
    Ended,
}

/// Carries bytes from one reader to one writer, then the end.
///
/// Bytes live in the thread's scratch buffer; only what the writer did not take at once is kept, until it has taken it.
/// An idle direction therefore owns no buffer at all.
#[derive(Debug)]
pub(crate) struct Transfer {
    phase: Phase,
    rest: Bytes,
    is_unflushed: bool,
}

impl Transfer {
    pub(crate) fn new() -> Self {
        Self { phase: Phase::Copying, rest: Bytes::new(), is_unflushed: false }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Gives up: nothing more is read or written, and the end is not passed on.
    pub(crate) fn abandon(&mut self) {
        self.phase = Phase::Ended;
        self.rest = Bytes::new();
    }

    /// Moves what can be moved; ready when the direction has ended, cleanly or not.
    pub(crate) fn poll<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        written: &AtomicU64,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let result = match self.phase {
            Phase::Copying => ready!(self.poll_copy(context, reader, writer, written)),
            Phase::Ending => Ok(()),
            Phase::Ended => return Poll::Ready(Ok(())),
        };
        let result = match result {
            Ok(()) => ready!(self.poll_end(context, writer, written)),
            Err(failure) => Err(failure),
        };
        self.abandon();
        Poll::Ready(result)
    }

    /// Copies until the reader ends.
    fn poll_copy<R, W>(
        &mut self,
        context: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        written: &AtomicU64,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS_PER_POLL {
            ready!(self.poll_rest(context, writer, written))?;
            let step = scratch::with(|scratch| {
                let mut buffer = ReadBuf::new(scratch);
                match Pin::new(&mut *reader).poll_read(context, &mut buffer) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Err(error)) => {
                        // The last chance of what a buffering writer holds back; the failure does not wait for it.
                        let _ = Pin::new(&mut *writer).poll_flush(context);
                        Poll::Ready(Err((Operation::Read, error)))
                    }
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(false)),
                    Poll::Ready(Ok(())) => Poll::Ready(self.write(context, writer, written, buffer.filled())),
                }
            });
            match step {
                Poll::Ready(Ok(true)) => {}
                Poll::Ready(Ok(false)) => {
                    self.phase = Phase::Ending;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {
                    // Nothing more to read for now: what a buffering writer (TLS) holds back must go out.
                    if self.is_unflushed {
                        ready!(self.poll_flush(context, writer))?;
                    }
                    return Poll::Pending;
                }
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }

    /// Offers freshly read bytes to the writer and keeps what it does not take; always `true`.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        written: &AtomicU64,
        mut bytes: &[u8],
    ) -> Result<bool, Failure> {
        while !bytes.is_empty() {
            match self.poll_write(context, writer, written, bytes) {
                Poll::Ready(count) => bytes.advance(count?),
                Poll::Pending => {
                    self.rest = Bytes::copy_from_slice(bytes);
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Writes what was kept, and gives its memory back.
    fn poll_rest<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        written: &AtomicU64,
    ) -> Poll<Result<(), Failure>> {
        while self.rest.has_remaining() {
            let rest = self.rest.clone();
            let count = ready!(self.poll_write(context, writer, written, &rest))?;
            self.rest.advance(count);
            if !self.rest.has_remaining() {
                self.rest = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        written: &AtomicU64,
        bytes: &[u8],
    ) -> Poll<Result<usize, Failure>> {
        let count = ready!(Pin::new(writer).poll_write(context, bytes))
            .and_then(
                |count| if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count.min(bytes.len())) },
            )
            .map_err(|error| (Operation::Write, error))?;
        self.is_unflushed = true;
        written.fetch_add(count as u64, Ordering::Relaxed);
        Poll::Ready(Ok(count))
    }

    fn poll_flush<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
    ) -> Poll<Result<(), Failure>> {
        ready!(Pin::new(writer).poll_flush(context)).map_err(|error| (Operation::Write, error))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }

    /// Writes what is left and passes the end on.
    fn poll_end<W: AsyncWrite + Unpin>(
        &mut self,
        context: &mut Context<'_>,
        writer: &mut W,
        written: &AtomicU64,
    ) -> Poll<Result<(), Failure>> {
        ready!(self.poll_rest(context, writer, written))?;
        match ready!(Pin::new(writer).poll_shutdown(context)) {
            // The writer's peer has already gone: everything was written, and there is nobody left to tell.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result.map_err(|error| (Operation::Shutdown, error))),
        }
    }
}
