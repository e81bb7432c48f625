//! How many system calls a process makes, counted by the kernel (`perf_event_open` on `raw_syscalls:sys_enter`).

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::fd::{FromRawFd as _, OwnedFd};

use crate::error::Named;

/// Where the tracepoint's number is, as `tracefs` is mounted by itself or inside `debugfs`.
const NUMBERS: [&str; 2] = [
    "/sys/kernel/tracing/events/raw_syscalls/sys_enter/id",
    "/sys/kernel/debug/tracing/events/raw_syscalls/sys_enter/id",
];

/// How often the threads of a process are listed again because some came or went meanwhile.
const ATTEMPTS: usize = 20;

/// `PERF_TYPE_TRACEPOINT`.
const TRACEPOINT: u32 = 2;

/// `inherit`, the second bit of the flags: what a thread starts is counted with it.
const INHERIT: u64 = 1 << 1;

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// Counts the system calls of a process and of whatever it starts, for as long as it lives.
///
/// While any counter lives, every system call of every process of the machine costs about a tenth of a microsecond more:
/// what is counted is not to be timed.
#[derive(Debug)]
pub struct SystemCalls {
    threads: Vec<File>,
}

/// The first published form of `perf_event_attr`, which every kernel knows.
#[repr(C)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    breakpoint: u32,
    config1: u64,
}

impl SystemCalls {
    /// Counts from now on those of all threads of a process.
    ///
    /// # Errors
    /// There is no such process, `tracefs` is not mounted or not readable, or the right is missing: `CAP_PERFMON` in the
    /// first user namespace, or `kernel.perf_event_paranoid` of −1.
    pub fn of(process: u32) -> io::Result<Self> {
        let number = number().named(|| "looking for the tracepoint of system calls".into())?;
        let mut listed = threads(process)?;
        for _ in 0..ATTEMPTS {
            let opened = listed.iter().map(|thread| open(number, *thread));
            let opened = opened.collect::<io::Result<Vec<_>>>();
            let again = threads(process)?;
            // A thread that was started meanwhile is counted by whoever started it, or not at all: nobody can tell.
            if again == listed {
                let threads = opened.named(|| format!("counting the system calls of process {process}"))?;
                return Ok(Self { threads });
            }
            listed = again;
        }
        let error = io::Error::new(io::ErrorKind::ResourceBusy, "its threads come and go");
        Err(error).named(|| format!("counting the system calls of process {process}"))
    }

    /// How many there were so far.
    ///
    /// # Errors
    /// The kernel's: none is known.
    pub fn count(&self) -> io::Result<u64> {
        let mut sum = 0;
        for mut thread in &self.threads {
            let mut count = [0; 8];
            thread.read_exact(&mut count).named(|| "reading a counter of system calls".into())?;
            sum += u64::from_ne_bytes(count);
        }
        Ok(sum)
    }
}

fn number() -> io::Result<u64> {
    let [own, inside] = NUMBERS.map(fs::read_to_string);
    let text = match (own, inside) {
        (Ok(text), _) | (Err(_), Ok(text)) => text,
        (Err(error), Err(_)) => return Err(error),
    };
    text.trim().parse().map_err(io::Error::other)
}

/// In order.
fn threads(process: u32) -> io::Result<Vec<i32>> {
    let listing = fs::read_dir(format!("/proc/{process}/task"));
    let mut found = Vec::new();
    for entry in listing.named(|| format!("listing the threads of process {process}"))? {
        found.extend(entry?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    found.sort_unstable();
    Ok(found)
}

fn open(number: u64, thread: i32) -> io::Result<File> {
    #[expect(clippy::cast_possible_truncation, reason = "it is 64 bytes")]
    let attributes = Attributes {
        kind: TRACEPOINT,
        size: size_of::<Attributes>() as u32,
        config: number,
        sample_period: 0,
        sample_type: 0,
        read_format: 0,
        flags: INHERIT,
        wakeup_events: 0,
        breakpoint: 0,
        config1: 0,
    };
    // On every processor, in no group.
    let (processor, group) = (-1, -1);
    // SAFETY: the kernel reads as many bytes as `size` says, which is how many the structure has, and keeps no pointer.
    // WHY: neither libc nor nix has a function for this call.
    let descriptor = unsafe {
        libc::syscall(libc::SYS_perf_event_open, &raw const attributes, thread, processor, group, CLOSE_ON_EXEC)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made it, and nobody else knows its number.
    // WHY: the call gives a number only.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }.into())
}
