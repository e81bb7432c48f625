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
    /// When the peer was asked last.
    asked: Option<Instant>,
}

impl Heartbeat {
    pub(crate) fn new(pings: PingPong, seen: Seen, keepalive: Keepalive) -> Self {
        Self { pings, seen, keepalive, timer: Box::pin(sleep(keepalive.interval)), asked: None }
    }

    /// Ready when the peer is gone.
    pub(crate) fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let (now, last) = (Instant::now(), self.seen.last());
            match self.asked.filter(|asked| last < *asked) {
                Some(asked) if asked + self.keepalive.timeout <= now => return Poll::Ready(()),
                Some(asked) => self.timer.as_mut().reset(asked + self.keepalive.timeout),
                None if last + self.keepalive.interval <= now => self.ask(cx, now),
                None => self.timer.as_mut().reset(last + self.keepalive.interval),
            }
        }
    }

    fn ask(&mut self, cx: &mut Context<'_>, now: Instant) {
        // Takes an earlier answer, so that the next PING may go out.
        let _ = self.pings.poll_pong(cx);
        // An error means that an earlier PING is still unanswered, or that the connection is closing.
        let _ = self.pings.send_ping(Ping::opaque());
        self.asked = Some(self.seen.to_the_millisecond(now));
        self.timer.as_mut().reset(now + self.keepalive.interval.min(self.keepalive.timeout));
    }
}
