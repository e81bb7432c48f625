//! A deadline for each of many short waits, for the price of one timer.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// Gives up waiting after a time.
///
/// Its timer stays armed from one wait to the next and is put off only when it goes off: a request that is answered
/// costs nothing.
#[derive(Debug)]
pub(crate) struct Watchdog {
    timeout: Duration,
    sleep: Pin<Box<Sleep>>,
}

impl Watchdog {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self { timeout, sleep: Box::pin(tokio::time::sleep(timeout)) }
    }

    /// What `work` makes, or nothing once the timeout has passed since `from`, which never goes back.
    pub(crate) async fn guard<T>(&mut self, from: Instant, work: impl Future<Output = T>) -> Option<T> {
        let deadline = from + self.timeout;
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(made) = work.as_mut().poll(context) {
                return Poll::Ready(Some(made));
            }
            while self.sleep.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                self.sleep.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn each_wait_has_the_whole_time() {
        let mut watchdog = Watchdog::new(SECOND);
        let work = tokio::time::sleep(SECOND * 9 / 10);
        assert!(watchdog.guard(Instant::now(), work).await.is_some());
        let from = Instant::now();
        assert!(watchdog.guard(from, pending::<()>()).await.is_none());
        // The wheel turns once a millisecond.
        assert!(from.elapsed() >= SECOND && from.elapsed() < SECOND + Duration::from_millis(5));
        let work = tokio::time::sleep(SECOND / 2);
        assert!(watchdog.guard(Instant::now(), work).await.is_some(), "a wait after one that was given up");
    }
}
