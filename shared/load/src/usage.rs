//! What the generator itself uses in the counted time.

use std::io;

use linux::process::{Usage, thread_usage};
use tokio::time::sleep_until;

use crate::outcome::Cpu;
use crate::run::{Phase, Reporter};
use crate::schedule::Window;

/// Waits until the counted time is over, and tells what this thread used in it.
pub(crate) async fn measure(window: Window, reporter: &Reporter) -> io::Result<Cpu> {
    reporter.begins(window);
    sleep_until(window.measured_from).await;
    reporter.phase(Phase::Measuring);
    let before = thread_usage()?;
    sleep_until(window.end).await;
    let used = difference(before, thread_usage()?);
    reporter.phase(Phase::Ending);
    Ok(used)
}

fn difference(before: Usage, after: Usage) -> Cpu {
    let micros = |after: std::time::Duration, before| {
        u64::try_from(after.saturating_sub(before).as_micros()).unwrap_or(u64::MAX)
    };
    Cpu {
        user_us: micros(after.user, before.user),
        system_us: micros(after.system, before.system),
        voluntary_switches: after.voluntary_switches.saturating_sub(before.voluntary_switches),
        involuntary_switches: after.involuntary_switches.saturating_sub(before.involuntary_switches),
    }
}

impl std::ops::Add for Cpu {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            user_us: self.user_us + other.user_us,
            system_us: self.system_us + other.system_us,
            voluntary_switches: self.voluntary_switches + other.voluntary_switches,
            involuntary_switches: self.involuntary_switches + other.involuntary_switches,
        }
    }
}
