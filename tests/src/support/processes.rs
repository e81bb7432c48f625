//! Looking at processes from outside: families, who lives, what a process is, and its end.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

pub(crate) use linux::process::Signal;

use super::eventually;

/// A process: its number and its start time, so that it is not taken for a later one with the same number.
pub(crate) type Process = (u32, u64);

/// Every process that descends from `first`, itself included.
pub(crate) fn family(first: u32) -> BTreeSet<Process> {
    let everyone: Vec<(u32, u32, u64)> = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| stat(pid).map(|(parent, started)| (pid, parent, started)))
        .collect();
    let mut found: BTreeSet<Process> =
        everyone.iter().filter(|(pid, ..)| *pid == first).map(|(pid, _, started)| (*pid, *started)).collect();
    loop {
        let before = found.len();
        let parents: BTreeSet<u32> = found.iter().map(|(pid, _)| *pid).collect();
        found.extend(everyone.iter().filter(|(_, parent, _)| parents.contains(parent)).map(|(p, _, s)| (*p, *s)));
        if found.len() == before {
            return found;
        }
    }
}

/// Those of the processes that still live.
pub(crate) fn alive(family: &BTreeSet<Process>) -> Vec<u32> {
    let lives = |(pid, started): &&Process| stat(*pid).is_some_and(|(_, now)| now == *started);
    family.iter().filter(lives).map(|(pid, _)| *pid).collect()
}

/// Waits until all of them have ended.
pub(crate) async fn all_end(family: &BTreeSet<Process>) {
    eventually("every process has ended", async || alive(family).is_empty().then_some(())).await;
}

/// Sends a signal to one process.
pub(crate) fn send(pid: u32, signal: Signal) {
    linux::process::kill(pid, signal).unwrap();
}

/// The process among `family` that runs `verb` of our program as pod `pod`.
pub(crate) fn component(family: &BTreeSet<Process>, verb: &str, pod: &str) -> Option<u32> {
    let wanted = format!("POD_NAME={pod}");
    let is_it = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(verb.as_bytes())
            && variables.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    };
    family.iter().map(|(pid, _)| *pid).find(is_it)
}

/// Processor time that a process has used, in clock ticks of 10 ms.
pub(crate) fn ticks(pid: u32) -> u64 {
    let fields = fields(pid).unwrap();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// What the threads of a process have had of the processors since its start, and how long they waited for one while they
/// could have run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Turns {
    pub(crate) ran: Duration,
    pub(crate) waited: Duration,
}

impl Turns {
    /// Those of a process by now; none where the kernel does not count them.
    pub(crate) fn of(pid: u32) -> Self {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
        threads.filter_map(|thread| fs::read_to_string(thread.path().join("schedstat")).ok()).fold(
            Self::default(),
            |sum, counts| {
                let mut counts = counts.split_whitespace().map(|count| Duration::from_nanos(count.parse().unwrap()));
                let mut next = || counts.next().unwrap_or_default();
                Self { ran: sum.ran + next(), waited: sum.waited + next() }
            },
        )
    }

    /// Those since an earlier moment.
    pub(crate) fn since(self, earlier: Self) -> Self {
        let Self { ran, waited } = self;
        Self { ran: ran.saturating_sub(earlier.ran), waited: waited.saturating_sub(earlier.waited) }
    }
}

/// Files and sockets that a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// How many files and sockets a process may have open.
pub(crate) fn most_files(pid: u32) -> usize {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    // Name, soft limit, hard limit, unit.
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

/// Memory that a process uses, in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Mounts of this machine that a lab might have left.
pub(crate) fn mounts() -> Vec<String> {
    let all = fs::read_to_string("/proc/self/mountinfo").unwrap();
    all.lines().filter(|line| line.contains("aquifer")).map(str::to_owned).collect()
}

/// Network interfaces of this machine.
pub(crate) fn interfaces() -> BTreeSet<String> {
    let all = fs::read_to_string("/proc/self/net/dev").unwrap();
    all.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
}

/// Parent and start time of a process that is not a zombie.
fn stat(pid: u32) -> Option<(u32, u64)> {
    let fields = fields(pid)?;
    (fields[0] != "Z").then(|| (fields[1].parse().unwrap(), fields[19].parse().unwrap()))
}

/// What the kernel says of a process after its name, which may hold anything.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
