//! Timers of the kernel (`timerfd`): precise to about the time that a thread needs to wake.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use crate::error::Named;

/// One timer of the monotonic clock, nonblocking: its descriptor becomes readable when it has expired.
///
/// Setting it makes it unreadable again, so that nobody needs to read it.
#[derive(Debug)]
pub struct Timer(TimerFd);

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// The kernel's: no descriptor is left.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        TimerFd::new(ClockId::CLOCK_MONOTONIC, flags).map(Self).named(|| "making a timer".into())
    }

    /// Lets it expire once, after `time`, at least a nanosecond. What was set before is forgotten.
    ///
    /// # Errors
    /// The kernel's: none is known.
    pub fn expire_after(&self, time: Duration) -> io::Result<()> {
        // Zero would mean never.
        let expiration = Expiration::OneShot(TimeSpec::from(time.max(Duration::from_nanos(1))));
        self.0.set(expiration, TimerSetTimeFlags::empty()).named(|| format!("setting a timer to {time:?}"))
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
