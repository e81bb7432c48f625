//! What a process has used, read from `/proc`.
//!
//! Processor time is summed over threads from their scheduling statistics, which count nanoseconds; the sums that the
//! kernel keeps for a whole process count hundredths of a second.
//! Threads that end between two readings take with them what they used meanwhile: proxies keep theirs.
//! System calls are not in `/proc` (`io` counts `read` and `write`, and sockets are used by other calls): the kernel counts
//! them for those that have the right to ask.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use linux::syscalls::SystemCalls;
use serde::{Deserialize, Serialize};

use crate::tunnels::Opened;

/// A process, told from a later one with the same number.
#[derive(Debug, Clone)]
pub struct Process {
    /// What reports call it.
    pub name: String,
    pid: u32,
    started: u64,
    /// Only while system calls are what is measured.
    system_calls: Option<Arc<SystemCalls>>,
}

/// What a process had used up to a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    threads: BTreeMap<u32, Thread>,
    /// Resident memory, in KiB.
    pub rss_kib: u64,
    system_calls: Option<u64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Thread {
    cpu: Duration,
    switches: u64,
}

/// What a process used between two readings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// What reports call it.
    pub process: String,
    /// Processor time of all threads, in seconds.
    pub cpu_s: f64,
    /// Context switches of all threads, asked for or not.
    pub context_switches: u64,
    /// System calls of all threads, where they were counted.
    pub system_calls: Option<u64>,
    /// Resident memory afterwards, in KiB.
    pub rss_kib: u64,
}

impl PartialEq for Process {
    /// Whether it is the same process by the same name.
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.pid, self.started) == (&other.name, other.pid, other.started)
    }
}

impl Eq for Process {}

impl Process {
    /// The process with that number.
    ///
    /// # Errors
    /// There is none.
    pub fn open(name: impl Into<String>, pid: u32) -> io::Result<Self> {
        Ok(Self { name: name.into(), pid, started: started(pid)?, system_calls: None })
    }

    /// Lets later readings have its system calls, from now on. All system calls of the machine take longer meanwhile.
    ///
    /// # Errors
    /// It has ended, or the right is missing.
    pub(crate) fn count_system_calls(&mut self) -> io::Result<()> {
        self.system_calls = Some(Arc::new(SystemCalls::of(self.pid)?));
        Ok(())
    }

    /// The TCP connections of its network namespace so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn opened(&self) -> io::Result<Opened> {
        let opened = Opened::read(&std::fs::read_to_string(folder(self.pid).join("net/snmp"))?)?;
        self.check()?;
        Ok(opened)
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It has ended.
    pub fn read(&self) -> io::Result<Reading> {
        let folder = folder(self.pid);
        let mut threads = BTreeMap::new();
        for entry in std::fs::read_dir(folder.join("task"))? {
            let entry = entry?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end while it is looked at.
            if let Ok(thread) = thread(&entry.path()) {
                threads.insert(id, thread);
            }
        }
        let rss_kib = field(&std::fs::read_to_string(folder.join("status"))?, "VmRSS").unwrap_or_default();
        let system_calls = self.system_calls.as_ref().map(|counter| counter.count()).transpose()?;
        self.check()?;
        Ok(Reading { threads, rss_kib, system_calls })
    }

    /// To be asked last: whatever was read before was this process's if it still is.
    fn check(&self) -> io::Result<()> {
        if started(self.pid)? == self.started {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("{} has ended", self.name)))
    }
}

impl Reading {
    /// What was used between an earlier reading and this one.
    #[must_use]
    pub fn since(&self, earlier: &Self, process: &str) -> Used {
        let system_calls = self.system_calls.zip(earlier.system_calls).map(|(now, before)| now.saturating_sub(before));
        let (process, rss_kib) = (process.to_owned(), self.rss_kib);
        let mut used = Used { process, cpu_s: 0.0, context_switches: 0, system_calls, rss_kib };
        for (id, now) in &self.threads {
            let before = earlier.threads.get(id).copied().unwrap_or_default();
            used.cpu_s += now.cpu.saturating_sub(before.cpu).as_secs_f64();
            used.context_switches += now.switches.saturating_sub(before.switches);
        }
        used
    }
}

/// Why nobody's system calls can be counted here; nothing where they can.
#[must_use]
pub fn why_no_system_calls() -> Option<String> {
    SystemCalls::of(std::process::id()).err().map(|error| format!("system calls are not counted: {error}"))
}

/// Every process that descends from `first`, itself included, with its command line.
///
/// # Errors
/// There is no `/proc`.
pub fn family(first: u32) -> io::Result<Vec<(u32, Vec<String>)>> {
    let mut parents = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = stat(pid).ok().and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    let descends = |pid: u32| {
        let line = std::iter::successors(Some(pid), |pid| parents.get(pid).copied().filter(|parent| *parent > 0));
        // Numbers are taken again, and a listing is not of one moment: no line is longer than there are processes.
        line.take(parents.len()).any(|pid| pid == first)
    };
    Ok(parents.keys().filter(|pid| descends(**pid)).map(|pid| (*pid, command(*pid))).collect())
}

/// The value of a variable that a process was started with.
#[must_use]
pub fn variable(pid: u32, name: &str) -> Option<String> {
    let all = std::fs::read(folder(pid).join("environ")).ok()?;
    let text = String::from_utf8_lossy(&all).into_owned();
    text.split('\0').find_map(|pair| Some(pair.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

fn folder(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}

fn command(pid: u32) -> Vec<String> {
    let all = std::fs::read(folder(pid).join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&all).split('\0').map(str::to_owned).collect()
}

/// In clock ticks since the machine's start.
fn started(pid: u32) -> io::Result<u64> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat"));
    stat(pid)?.get(19).and_then(|text| text.parse().ok()).ok_or_else(malformed)
}

/// The fields after the program's name, which may hold anything.
fn stat(pid: u32) -> io::Result<Vec<String>> {
    let text = std::fs::read_to_string(folder(pid).join("stat"))?;
    let rest = text.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

fn thread(folder: &Path) -> io::Result<Thread> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "schedstat");
    let statistics = std::fs::read_to_string(folder.join("schedstat"))?;
    let nanoseconds = statistics.split_whitespace().next().and_then(|text| text.parse().ok()).ok_or_else(malformed)?;
    let status = std::fs::read_to_string(folder.join("status"))?;
    let switches = ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
    let switches = switches.iter().filter_map(|name| field(&status, name)).sum();
    Ok(Thread { cpu: Duration::from_nanos(nanoseconds), switches })
}

/// The number of a line `name: number unit`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_to_the_one_who_does_it() {
        let own = Process::open("own", std::process::id()).unwrap();
        let before = own.read().unwrap();
        assert!(before.rss_kib > 500, "{before:?}");
        // The kernel brings a running thread's count up to date at ticks of the clock.
        let mut sum = 0_u64;
        let used = loop {
            sum = (0..1_000_000_u64).fold(sum, |sum, number| sum.rotate_left(3) ^ number);
            let used = own.read().unwrap().since(&before, "own");
            if used.cpu_s >= 0.05 || sum == 1 {
                break used;
            }
        };
        assert_eq!(used.process, "own");
        assert!(used.cpu_s < 60.0, "{used:?}");
    }

    #[test]
    fn system_calls_are_counted_once_they_are_asked_for_where_that_is_allowed() {
        let mut own = Process::open("own", std::process::id()).unwrap();
        let before = own.read().unwrap();
        assert_eq!(before.since(&before, "own").system_calls, None);
        // Threads of other tests begin and end meanwhile, so that only a process which has none can be counted exactly;
        // that is for the tests of `linux`.
        let counted = own.count_system_calls();
        if let Some(why) = why_no_system_calls() {
            println!("SKIPPED: {why}");
            return;
        }
        if counted.is_ok() {
            let before = own.read().unwrap();
            let calls = || (0..1_000).for_each(|_| drop(std::fs::metadata("/")));
            std::thread::spawn(calls).join().unwrap();
            let used = own.read().unwrap().since(&before, "own");
            assert!(used.system_calls.unwrap() >= 1_000, "{used:?}");
        }
    }

    #[test]
    fn another_process_with_the_same_number_is_not_mistaken() {
        let mut later = Process::open("x", std::process::id()).unwrap();
        later.started -= 1;
        assert_eq!(later.read().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(later.opened().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn connections_are_counted_where_they_are_opened() {
        let own = Process::open("own", std::process::id()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let before = own.opened().unwrap();
        drop(std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let after = own.opened().unwrap();
        assert!(after.active > before.active && after.passive > before.passive, "{before:?} {after:?}");
    }

    #[test]
    fn a_family_has_its_first_and_leaves_strangers_out() {
        let own = std::process::id();
        let found = family(own).unwrap();
        let (_, command) = found.iter().find(|(pid, _)| *pid == own).unwrap();
        assert!(command[0].contains("bench"), "{command:?}");
        assert!(found.iter().all(|(pid, _)| *pid != 1));
        assert!(variable(own, "PATH").is_some_and(|path| !path.is_empty()));
    }
}
