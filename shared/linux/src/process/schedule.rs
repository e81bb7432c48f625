//! How soon a thread runs that has waited for something.

use std::io;

use crate::error::Named;

/// The shortest slice that the scheduler grants (`sched_runtime` of ordinary threads, since Linux 6.12; older kernels
/// ignore it). Whoever asks for little at a time gets it sooner.
const SLICE_NS: u64 = 100_000;

/// The most that niceness can do.
const NICEST: i32 = -20;

/// How a thread is preferred over others that want the same processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promptness {
    /// By its niceness and its slice: it nearly always runs at once.
    Preferred,
    /// By its slice alone, which takes no rights: it runs sooner than without.
    ShortSlice,
}

/// Lets the calling thread run as soon as may be after it has waited, before other threads of the same processor.
/// What it starts later is not preferred.
///
/// # Errors
/// The kernel's: it is too old (before 3.14), or the thread is not an ordinary one.
pub fn run_promptly() -> io::Result<Promptness> {
    let mut wanted = attributes()?;
    let nice = wanted.sched_nice;
    // Only ordinary threads have a slice.
    if wanted.sched_policy != libc::SCHED_OTHER.cast_unsigned() {
        let error = io::Error::new(io::ErrorKind::Unsupported, "it is scheduled by another policy");
        return Err(error).named(|| "preferring a thread".into());
    }
    wanted.sched_flags |= u64::from(libc::SCHED_FLAG_RESET_ON_FORK.cast_unsigned());
    wanted.sched_runtime = SLICE_NS;
    wanted.sched_nice = NICEST;
    match set(&wanted) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
        set => return set.named(|| "preferring a thread".into()).map(|()| Promptness::Preferred),
    }
    wanted.sched_nice = nice;
    set(&wanted).named(|| "shortening a thread's slice".into()).map(|()| Promptness::ShortSlice)
}

/// How the calling thread is scheduled.
fn attributes() -> io::Result<libc::sched_attr> {
    let mut found = libc::sched_attr {
        size: SIZE,
        sched_policy: 0,
        sched_flags: 0,
        sched_nice: 0,
        sched_priority: 0,
        sched_runtime: 0,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel writes at most `SIZE` bytes, which is how many the structure has.
    // WHY: neither libc nor nix has a function for this call.
    let result = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut found, SIZE, 0) };
    answer(result).named(|| "asking how a thread is scheduled".into())?;
    // It says how many bytes it knows; what is set later is this structure.
    found.size = SIZE;
    Ok(found)
}

fn set(wanted: &libc::sched_attr) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `size` says, which is how many the structure has.
    // WHY: neither libc nor nix has a function for this call.
    answer(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const *wanted, 0) })
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[expect(clippy::cast_possible_truncation, reason = "it is 48 bytes")]
const SIZE: u32 = size_of::<libc::sched_attr>() as u32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_preferred_as_far_as_its_rights_go_and_what_it_starts_is_not() {
        // A thread of its own: the others of this process stay as they are.
        std::thread::scope(|scope| {
            let preferred = scope.spawn(|| {
                let before = attributes().unwrap().sched_nice;
                let promptness = run_promptly().unwrap();
                let now = attributes().unwrap();
                let nice = if promptness == Promptness::Preferred { NICEST } else { before };
                assert_eq!(now.sched_nice, nice, "{promptness:?}");
                // Kernels that know no slices say that there is none.
                assert!([SLICE_NS, 0].contains(&now.sched_runtime), "{}", now.sched_runtime);
                let child = std::thread::spawn(|| attributes().unwrap()).join().unwrap();
                assert!(child.sched_nice >= before.min(0), "{}", child.sched_nice);
            });
            preferred.join().unwrap();
        });
    }
}
