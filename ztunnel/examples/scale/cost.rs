//! Memory and processor time of a process, as the kernel sees them.

use std::time::Duration;

use anyhow::{Context, Result};

/// The unit in which the kernel tells of time (`USER_HZ`, 100 everywhere).
const TICK: Duration = Duration::from_millis(10);

/// Resident memory of a process in KiB.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is no number")
}

/// How long a process has run so far, with the threads that have ended since.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold spaces; times in user space and in the kernel are the 14th and 15th field.
    let (_, fields) = status.rsplit_once(')').context("no name")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(TICK * u32::try_from(ticks)?)
}
