//! Asking a silent peer whether it is still there.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep};

use crate::handle::Shared;
use crate::parameters::Keepalive;

/// Sends a PING after a silence and finds the peer dead when another silence follows.
///
/// Anything that arrives counts as a sign of life, not only the answer: behind megabytes of data on a slow link the
/// answer itself may be late.
pub(crate) struct Heartbeat {
    keepalive: Keepalive,
    timer: Pin<Box<Sleep>>,
    /// When the peer was asked last.
    asked: Option<Instant>,
}

impl Heartbeat {
    pub(crate) fn new(keepalive: Keepalive) -> Self {
        Self { keepalive, timer: Box::pin(sleep(keepalive.interval)), asked: None }
    }

    /// Ready when the peer is gone.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>, connection: &Shared) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let (now, last) = (Instant::now(), connection.seen().last());
            match self.asked.filter(|asked| last < *asked) {
                Some(asked) if asked + self.keepalive.timeout <= now => return Poll::Ready(()),
                Some(asked) => self.timer.as_mut().reset(asked + self.keepalive.timeout),
                None if last + self.keepalive.interval <= now => self.ask(connection, now),
                None => self.timer.as_mut().reset(last + self.keepalive.interval),
            }
        }
    }

    fn ask(&mut self, connection: &Shared, now: Instant) {
        connection.lock().ping();
        self.asked = Some(connection.seen().to_the_millisecond(now));
        self.timer.as_mut().reset(now + self.keepalive.interval.min(self.keepalive.timeout));
    }
}
