//! Process 1 of a new pid namespace.
//!
//! It is a copy of the parent that never becomes another program, so what [`super::first`] says holds here too: only
//! async-signal-safe calls, no allocation.

use std::ffi::c_int;
use std::os::fd::RawFd;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, chdir, setsid};

/// What a shell adds to the number of the signal that ended a program.
const ENDED_BY_SIGNAL: c_int = 128;

/// Hands signals to the program, collects whoever ends, and ends with the program.
pub(super) fn be_process_one(program: libc::pid_t) -> c_int {
    // The terminal's signals go to the program itself; as a member of its session we would send each a second time.
    let _ = setsid();
    let _ = chdir(c"/");
    close_all();
    loop {
        match SigSet::all().wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = collect(program) {
                    return status;
                }
            }
            Ok(other) => {
                let _ = kill(Pid::from_raw(program), other);
            }
            // A signal without a name.
            Err(_) => {}
        }
    }
}

/// Collects all processes that have ended; the exit status of the program if it is among them.
fn collect(program: libc::pid_t) -> Option<c_int> {
    let mut outcome = None;
    loop {
        let mut status = 0;
        // SAFETY: the status is written to a variable of ours.
        // WHY: nix reports an error for a process that a real-time signal ended.
        let ended = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if ended <= 0 {
            return outcome;
        }
        if ended == program {
            outcome = Some(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                ENDED_BY_SIGNAL + libc::WTERMSIG(status)
            });
        }
    }
}

/// Lets go of every file: whoever waits for the end of a pipe waits for the program alone.
fn close_all() {
    /// Where the call is missing (before Linux 5.9), files beyond this many stay open.
    const USUAL_LIMIT: RawFd = 1024;
    // SAFETY: nothing of this process uses a file any more.
    // WHY: nix does not wrap close_range.
    if unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) } == 0 {
        return;
    }
    for descriptor in 0..USUAL_LIMIT {
        // SAFETY: as above.
        // WHY: the files have no owners here; they were inherited.
        unsafe { libc::close(descriptor) };
    }
}
