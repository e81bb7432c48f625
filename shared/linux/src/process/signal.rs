//! Signals to processes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;

use crate::error::Named;

/// A signal that is sent to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// The terminal went away.
    Hangup,
    /// Ctrl-C.
    Interrupt,
    /// Please end.
    Terminate,
    /// Ends the process without its doing.
    Kill,
}

impl From<Signal> for signal::Signal {
    fn from(signal: Signal) -> Self {
        match signal {
            Signal::Hangup => Self::SIGHUP,
            Signal::Interrupt => Self::SIGINT,
            Signal::Terminate => Self::SIGTERM,
            Signal::Kill => Self::SIGKILL,
        }
    }
}

/// A handle on a process that can never mean another one.
#[derive(Debug)]
pub struct PidFd {
    file: OwnedFd,
}

impl PidFd {
    /// Opens process `pid`.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let operation = || format!("opening process {pid}");
        let number = number(pid).named(operation)?.as_raw();
        // SAFETY: pidfd_open takes two numbers and touches no memory.
        // WHY: nix does not wrap it.
        let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
        let opened = match Errno::result(opened) {
            Err(Errno::ESRCH) => Err(io::Error::from(io::ErrorKind::NotFound)).named(operation)?,
            opened => opened.named(operation)?,
        };
        let descriptor = RawFd::try_from(opened).map_err(io::Error::other).named(operation)?;
        // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
        // WHY: the system call returns a number.
        let file = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(Self { file })
    }

    /// Sends a signal. A process that has ended is fine.
    ///
    /// # Errors
    /// `PermissionDenied` for another user's process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let number = signal::Signal::from(signal) as libc::c_int;
        let no_information = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: the descriptor is open, and the pointer may be null.
        // WHY: nix does not wrap pidfd_send_signal.
        let sent =
            unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.file.as_raw_fd(), number, no_information, 0) };
        unless_ended(Errno::result(sent).map(drop)).named(|| format!("sending {signal:?} to a process"))
    }
}

impl AsFd for PidFd {
    /// Readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Sends a signal to process `pid`. An absent one is fine.
///
/// # Errors
/// `PermissionDenied` for another user's process.
pub fn kill(pid: u32, signal: Signal) -> io::Result<()> {
    let operation = || format!("sending {signal:?} to process {pid}");
    unless_ended(signal::kill(number(pid).named(operation)?, signal::Signal::from(signal))).named(operation)
}

/// Sends a signal to all processes of the group that `leader` leads. An absent one is fine.
///
/// # Errors
/// `PermissionDenied` for another user's processes.
pub fn kill_group(leader: u32, signal: Signal) -> io::Result<()> {
    let operation = || format!("sending {signal:?} to process group {leader}");
    unless_ended(signal::killpg(number(leader).named(operation)?, signal::Signal::from(signal))).named(operation)
}

/// Asks for `signal` when the **thread** that started this process ends.
///
/// # Errors
/// The kernel's.
pub fn set_parent_death(signal: Signal) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(signal::Signal::from(signal)).named(|| "watching the parent process".into())
}

/// To kill(2), numbers below 1 are groups or everybody, which nobody means who has a `u32`; process 1 is spared too:
/// signals for it come from outside its namespace, where it has another number.
fn number(pid: u32) -> io::Result<Pid> {
    match i32::try_from(pid) {
        Ok(pid) if pid > 1 => Ok(Pid::from_raw(pid)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a process that may be signalled")),
    }
}

fn unless_ended(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}
