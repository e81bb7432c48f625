//! Joining two streams.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

use crate::Duplex;
use crate::direction::{Failure, Transfer};

/// How long the other direction may go on after one could no longer be written.
///
/// A peer that stops reading (it has answered early and closed) has often sent its answer already: the time is for
/// bytes that are on their way, not for new ones.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Which way bytes flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the downstream, which opened the connection, to the upstream.
    ToUpstream,
    /// From the upstream to the downstream.
    ToDownstream,
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The stream that was accepted.
    Downstream,
    /// The stream that was opened.
    Upstream,
}

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reading.
    Read,
    /// Writing or flushing.
    Write,
    /// Passing the end on, after everything was written.
    Shutdown,
}

/// Why a copy ended other than by both peers ending their stream: the first failure.
#[derive(Debug, thiserror::Error)]
#[error("{} {} failed", side_word(self.side()), operation_word(self.operation))]
pub struct CopyError {
    /// The direction that failed.
    pub direction: Direction,
    /// What failed in it.
    pub operation: Operation,
    /// How.
    pub source: io::Error,
}

impl CopyError {
    /// Whose fault it is.
    #[must_use]
    pub fn side(&self) -> Side {
        match (self.direction, self.operation) {
            (Direction::ToUpstream, Operation::Read)
            | (Direction::ToDownstream, Operation::Write | Operation::Shutdown) => Side::Downstream,
            (Direction::ToDownstream, Operation::Read)
            | (Direction::ToUpstream, Operation::Write | Operation::Shutdown) => Side::Upstream,
        }
    }
}

fn side_word(side: Side) -> &'static str {
    match side {
        Side::Downstream => "downstream",
        Side::Upstream => "upstream",
    }
}

fn operation_word(operation: Operation) -> &'static str {
    match operation {
        Operation::Read => "read",
        Operation::Write => "write",
        Operation::Shutdown => "shutdown",
    }
}

/// Bytes written so far in each direction; readable while the copy runs.
#[derive(Debug, Default)]
pub struct Counters {
    to_upstream: AtomicU64,
    to_downstream: AtomicU64,
}

impl Counters {
    /// Nothing was written yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { to_upstream: AtomicU64::new(0), to_downstream: AtomicU64::new(0) }
    }

    /// Bytes that the upstream has taken.
    pub fn to_upstream(&self) -> u64 {
        self.to_upstream.load(Ordering::Relaxed)
    }

    /// Bytes that the downstream has taken.
    pub fn to_downstream(&self) -> u64 {
        self.to_downstream.load(Ordering::Relaxed)
    }

    /// Counts bytes that were written outside of a copy, such as a first message.
    pub fn add(&self, direction: Direction, bytes: u64) {
        match direction {
            Direction::ToUpstream => &self.to_upstream,
            Direction::ToDownstream => &self.to_downstream,
        }
        .fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Copies both ways until both directions have ended.
///
/// The end of a stream is passed on as the end of the other's writing half, while the opposite direction goes on: a
/// half-closed connection stays half-closed, for as long as its peers like.
/// Nothing here times out; callers that drain or re-authorise drop the future.
/// Bytes are counted when they are written.
///
/// A connection that moves no bytes holds no buffer; one whose peer reads slowly holds at most 60 KiB per direction, or
/// what the stream that it came from had in one piece.
///
/// # Errors
/// The first failure. A failed read ends both directions at once. A failed write or shutdown stops that direction, and
/// leaves the other a second for what its peer has already sent. In neither case is the end of a cut stream passed on
/// with a shutdown, which would tell its peer that the stream is whole: the streams are dropped, which is their cue to
/// reset. Pass `&mut` references to keep them.
pub async fn copy_bidirectional<D, U>(mut downstream: D, mut upstream: U, counters: &Counters) -> Result<(), CopyError>
where
    D: Duplex,
    U: Duplex,
{
    let mut copy = Copy { to_upstream: Transfer::new(), to_downstream: Transfer::new(), first: None, aftermath: None };
    poll_fn(|context| copy.poll(context, &mut downstream, &mut upstream, counters)).await
}

struct Copy {
    to_upstream: Transfer,
    to_downstream: Transfer,
    /// The failure that is reported in the end.
    first: Option<CopyError>,
    /// Runs from the first failure; boxed because most connections never need it.
    aftermath: Option<Pin<Box<Sleep>>>,
}

impl Copy {
    fn poll<D, U>(
        &mut self,
        context: &mut Context<'_>,
        downstream: &mut D,
        upstream: &mut U,
        counters: &Counters,
    ) -> Poll<Result<(), CopyError>>
    where
        D: Duplex,
        U: Duplex,
    {
        if let Poll::Ready(Err(failure)) = self.to_upstream.poll(context, downstream, upstream, &counters.to_upstream) {
            self.fail(Direction::ToUpstream, failure);
        }
        let result = self.to_downstream.poll(context, upstream, downstream, &counters.to_downstream);
        if let Poll::Ready(Err(failure)) = result {
            self.fail(Direction::ToDownstream, failure);
        }
        if let Some(aftermath) = &mut self.aftermath
            && aftermath.as_mut().poll(context).is_ready()
        {
            self.to_upstream.abandon();
            self.to_downstream.abandon();
        }
        if !(self.to_upstream.has_ended() && self.to_downstream.has_ended()) {
            return Poll::Pending;
        }
        Poll::Ready(self.first.take().map_or(Ok(()), Err))
    }

    fn fail(&mut self, direction: Direction, (operation, source): Failure) {
        if operation == Operation::Read {
            self.to_upstream.abandon();
            self.to_downstream.abandon();
        } else {
            self.aftermath.get_or_insert_with(|| Box::pin(sleep(AFTERMATH)));
        }
        self.first.get_or_insert(CopyError { direction, operation, source });
    }
}

#[cfg(test)]
mod tests;
