//! What a thread has used of the processors.

use std::io;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use crate::error::Named;

/// What a thread has used since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Time in user mode.
    pub user: Duration,
    /// Time in the kernel.
    pub system: Duration,
    /// Context switches because it waited.
    pub voluntary_switches: u64,
    /// Context switches because something else was to run.
    pub involuntary_switches: u64,
}

/// What the calling thread has used.
///
/// # Errors
/// The kernel's: none is known.
pub fn thread_usage() -> io::Result<Usage> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).named(|| "reading what this thread has used".into())?;
    Ok(Usage {
        user: duration(usage.user_time()),
        system: duration(usage.system_time()),
        voluntary_switches: u64::try_from(usage.voluntary_context_switches()).unwrap_or_default(),
        involuntary_switches: u64::try_from(usage.involuntary_context_switches()).unwrap_or_default(),
    })
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen_in_the_thread_that_does_it() {
        let before = thread_usage().unwrap();
        let other = std::thread::spawn(|| thread_usage().unwrap()).join().unwrap();
        // Ends: the counter of the kernel goes on while this thread runs.
        while thread_usage().unwrap().user + thread_usage().unwrap().system
            < before.user + before.system + Duration::from_millis(20)
        {}
        assert!(other.user + other.system < Duration::from_millis(20), "{other:?}");
    }
}
