//! What moves a connection's bytes between its state and its transport.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::io::{Buffer, Transport};
use http2::{Connection, Http2Error, Input, Output, Role};
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio::time::Instant;

use crate::activity::Activity;
use crate::handle::Shared;
use crate::pace::Neighbours;
use crate::{Parameters, frames};

/// A connection and its transport; dropping it breaks the connection's streams.
pub(crate) struct Mover<T> {
    io: Activity<T>,
    shared: Shared,
    output: Output,
    is_flushed: bool,
    has_received: bool,
    /// The transport has ended, or broken: nothing more is written to it.
    is_broken: bool,
}

impl<T> Mover<T> {
    pub(crate) fn new(io: T, role: Role, parameters: &Parameters) -> Self
    where
        T: Transport,
    {
        let round_trip = io.round_trip();
        let (io, seen) = Activity::new(io);
        let neighbours = Neighbours::new(seen, round_trip, parameters.stream_window);
        let shared = Shared::new(Connection::new(role, parameters.config(role)), neighbours);
        Self { io, shared, output: Output::default(), is_flushed: true, has_received: false, is_broken: false }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }
}

impl<T: Transport> Mover<T> {
    /// Reads what comes before the first frame.
    pub(crate) fn poll_read_raw(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }

    /// Moves all bytes that can be moved; ready when the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Http2Error>> {
        loop {
            let was_silent = !self.has_received;
            let is_read = self.poll_receive(cx);
            if was_silent && self.has_received {
                // The streams that this woke have their turn: what they send leaves with what we acknowledge, in one piece.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let sent = if self.is_broken { Poll::Ready(Ok(())) } else { self.poll_most(cx) };
            if let Err(error) = ready!(sent) {
                self.break_off(Some(error));
            }
            let mut connection = self.shared.lock();
            match connection.outcome() {
                Some(_) if connection.has_output() && !self.is_broken => {}
                Some(outcome) => {
                    drop(connection);
                    // A transport that is broken takes no farewell: its peer shall not take this for an end in peace.
                    if !self.is_broken || outcome.is_ok() {
                        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
                        // A peer that has left already is not waited for.
                        if closed.is_pending() && !self.is_broken {
                            return Poll::Pending;
                        }
                    }
                    return Poll::Ready(outcome);
                }
                // It was read until it had no more, and whatever is new wakes this task.
                None if is_read == connection.wants_input() && connection.park(cx.waker()) => return Poll::Pending,
                None => {}
            }
        }
    }

    /// Reads until there is no more to read, or no more is wanted; whether more was wanted to the end.
    pub(crate) fn poll_receive(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.is_broken || !self.shared.lock().wants_input() {
                return false;
            }
            match self.poll_read(cx) {
                Poll::Pending => return true,
                Poll::Ready(Ok(0)) => self.break_off(None),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => self.break_off(Some(error)),
            }
        }
    }

    /// Reads once; how much that was.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = Buffer::take();
        let mut read = ReadBuf::new(&mut buffer);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut read))?;
        let length = read.filled().len();
        self.has_received |= length > 0;
        let (mut connection, now) = (self.shared.lock(), Instant::now().into_std());
        // What is much is handed on without a copy.
        if length >= Buffer::LARGE {
            connection.receive(Input::Owned(buffer.into_bytes(length)), now);
        } else {
            connection.receive(Input::Borrowed(buffer.get(..length).unwrap_or_default()), now);
        }
        Poll::Ready(Ok(length))
    }

    /// Writes all there is, and flushes it unless it was the last: that leaves with the farewell of the transport, in one
    /// piece.
    fn poll_most(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        if self.shared.lock().outcome().is_some() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    /// Writes all there is, and flushes.
    pub(crate) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        self.poll_flush(cx)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_flushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.is_flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes all there is.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.output.is_empty() {
                let count = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &self.output.slices()))?;
                if count == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.output.advance(count);
                self.is_flushed = false;
            }
            let mut connection = self.shared.lock();
            if connection.has_output() {
                self.output.lend(frames::take);
                connection.transmit(&mut self.output);
            }
            if self.output.is_empty() {
                frames::give_back(std::mem::take(&mut self.output).into_buffer());
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn break_off(&mut self, error: Option<io::Error>) {
        self.is_broken = true;
        self.shared.lock().receive_end(error);
    }
}

impl<T> Drop for Mover<T> {
    fn drop(&mut self) {
        self.shared.lock().abandon(io::ErrorKind::BrokenPipe.into());
    }
}
