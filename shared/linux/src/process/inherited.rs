//! The descriptors that a program was started with.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::error::Named;

/// The first descriptor after the standard ones.
const FIRST: RawFd = 3;

/// Whether the descriptors have been handed out.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the `N` descriptors from 3 on, as [`super::Init::files`] leaves them for the program that it starts. They are
/// closed on exec from now on. Call it first thing, before the program opens anything.
///
/// # Errors
/// When one of them is not open, or they have been taken before.
pub fn inherited<const N: usize>() -> io::Result<[OwnedFd; N]> {
    let operation = || format!("taking {N} inherited descriptors");
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::other("they have been taken before")).named(operation);
    }
    let mut numbers = [0; N];
    for (number, slot) in (FIRST..).zip(&mut numbers) {
        // SAFETY: the number is only asked about.
        // WHY: nothing owns it yet that could be borrowed.
        let borrowed = unsafe { std::os::fd::BorrowedFd::borrow_raw(number) };
        let flags = fcntl(borrowed, FcntlArg::F_GETFD).named(operation)?;
        // What this program has opened itself is closed on exec; taking that would give it two owners.
        if FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC) {
            return Err(io::Error::other(format!("descriptor {number} was not inherited"))).named(operation);
        }
        fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).named(operation)?;
        *slot = number;
    }
    // SAFETY: each number is an open descriptor, as fcntl has shown, and is handed out once in the life of the process.
    // WHY: what a parent leaves open comes as a number only.
    Ok(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }))
}
