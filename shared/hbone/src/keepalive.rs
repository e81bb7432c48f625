//! Asking a silent peer whether it is still there.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep};

use crate::activity::Seen;
use crate::parameters::Keepalive;

/// Sends a PING after a silence and finds the peer dead when another silence follows.
///
/// Anything that arrives counts as a sign of life, not only the answer: behind megabytes of data on a slow link the
/// answer itself may be late.
pub(crate) struct Heartbeat {
    pings: PingPong,
    seen: Seen,
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl Heartbeat {
    pub(crate) fn new(pings: PingPong, seen: Seen, keepalive: Keepalive) -> Self {
        Self { pings, seen, keepalive, timer: Box::pin(sleep(keepalive.interval)), is_waiting: false }
    }

    /// Ready when the peer is gone.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.is_waiting && self.poll_answer(cx).is_ready() {
                self.quiet();
            }
            ready!(self.timer.as_mut().poll(cx));
            match (self.seen.take(), self.is_waiting) {
                (true, _) => self.quiet(),
                (false, true) => return Poll::Ready(()),
                // The connection is closing when no PING can be sent; that ends the driver soon enough.
                (false, false) => self.ask(),
            }
        }
    }

    /// Waits for the PING's answer; never ready when the connection is closing.
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(self.pings.poll_pong(cx)) {
            Ok(_pong) => Poll::Ready(()),
            Err(_closing) => Poll::Pending,
        }
    }

    fn ask(&mut self) {
        self.is_waiting = true;
        // An error means that the last PING is still unanswered while other bytes arrived: then those are watched.
        let _ = self.pings.send_ping(Ping::opaque());
        self.timer.as_mut().reset(Instant::now() + self.keepalive.timeout);
    }

    fn quiet(&mut self) {
        self.is_waiting = false;
        self.seen.take();
        self.timer.as_mut().reset(Instant::now() + self.keepalive.interval);
    }
}
