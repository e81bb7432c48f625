//! Waiting to the microsecond.
//!
//! tokio's timer wheel turns once a millisecond, which is many times what a request takes.
//! A timer of the kernel (`timerfd`) is precise to about the time that a thread needs to wake, and costs one system call
//! per wait; it is not subject to the timer slack by which the kernel puts `epoll_wait` off.
//! Nothing spins: the processor belongs to the proxies that are measured.

use std::io;

use linux::timer::Timer as Kernel;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

#[derive(Debug)]
pub(crate) struct Timer(AsyncFd<Kernel>);

impl Timer {
    /// Inside a runtime.
    #[expect(deprecated, reason = "the successor is unsafe; the timer owns its descriptor until it is dropped")]
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(AsyncFd::with_interest(Kernel::new()?, Interest::READABLE)?))
    }

    /// Waits until `due`, and tells what time it is then. At once when that is past.
    pub(crate) async fn until(&mut self, due: Instant) -> io::Result<Instant> {
        let mut now = Instant::now();
        while now < due {
            // An expiry that an earlier wait left behind only makes this loop turn once more.
            self.0.get_ref().expire_after(due - now)?;
            self.0.readable().await?.clear_ready();
            now = Instant::now();
        }
        Ok(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn no_wait_ends_early_and_many_end_within_half_a_millisecond() {
        let mut timer = Timer::new().unwrap();
        let mut lateness = Vec::new();
        for _ in 0..50 {
            let due = Instant::now() + Duration::from_micros(1_300);
            let now = timer.until(due).await.unwrap();
            assert!(now >= due);
            lateness.push(now - due);
        }
        lateness.sort();
        // A quarter of them: the machine may have other work. The runtime's own timer is more than 0.7 ms late.
        assert!(lateness[12] < Duration::from_micros(500), "{lateness:?}");
    }

    #[tokio::test]
    async fn what_is_past_is_not_waited_for() {
        let mut timer = Timer::new().unwrap();
        let due = Instant::now() - Duration::from_secs(1);
        assert!(timer.until(due).await.unwrap() >= due);
    }
}
