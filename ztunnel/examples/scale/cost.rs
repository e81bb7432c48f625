//! Memory and processor time of a process, as the kernel sees them.

use std::time::Duration;

use anyhow::{Context, Result};

/// Resident memory of a process in KiB.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").trim().parse().context("VmRSS is no number")
}

/// How long the threads of a process have run so far.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let mut time = Duration::ZERO;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let counters = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        time += Duration::from_nanos(counters.split(' ').next().context("no time")?.parse()?);
    }
    Ok(time)
}
