//! Processes in namespaces of their own.
//!
//! [`Init`] starts the first process of new namespaces, with or without root; [`confine`] makes a
//! [`std::process::Command`] start inside a network namespace with its own view of the file system.

mod confine;
mod first;
mod inherited;
mod init;
mod namespaces;
mod one;
mod schedule;
mod signal;
mod usage;

pub use confine::{Confinement, Mounts, Report, confine, mount_namespace_of};
pub use inherited::inherited;
pub use init::{Init, InitProcess};
pub use namespaces::{NamespaceError, Namespaces, is_privileged};
pub use schedule::{Promptness, run_promptly};
pub use signal::{PidFd, Signal, kill, kill_group, set_parent_death};
pub use usage::{Usage, thread_usage};

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::error::Named;

/// Lets this process open `count` files, beyond its hard limit if need be.
///
/// # Errors
/// Above the hard limit without `CAP_SYS_RESOURCE`, and above `fs.nr_open`.
pub fn allow_open_files(count: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, count, hard.max(count)).named(|| format!("allowing {count} open files"))
}

/// Raises the number of files that this process may open to the hard limit, and says what it is.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> io::Result<u64> {
    let raise = || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        Ok::<_, nix::Error>(hard)
    };
    raise().named(|| "raising the number of open files".into())
}
