//! Mounts in the calling process's mount namespace.

use std::io;
use std::path::{Path, PathBuf};

/// One step of preparing a file tree; see [`apply`] and [`crate::process::Confinement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Shows `source`, a file or directory with all that is mounted below it, at `target`, which must exist.
    Bind {
        /// What is shown.
        source: PathBuf,
        /// Where.
        target: PathBuf,
        /// Refuses writes through `target`.
        read_only: bool,
    },
    /// An empty file system in memory.
    Tmpfs {
        /// Where.
        target: PathBuf,
        /// Most bytes it may hold; `None` is half of the machine's memory.
        size: Option<u64>,
        /// Permissions of its root directory, such as `0o755`.
        mode: u32,
    },
    /// Makes `directory` writable without changing what is below it: whatever is written, also a new mount point,
    /// goes to `scratch`. Mounts below `directory` do not show through.
    Overlay {
        /// The existing directory.
        directory: PathBuf,
        /// A directory, made if absent, on a file system that is writable and not an overlay itself, such as a tmpfs;
        /// for this overlay alone.
        scratch: PathBuf,
    },
    /// The processes of the current pid namespace.
    Proc {
        /// Where; usually `/proc`.
        target: PathBuf,
    },
    /// Makes a directory with its parents, if absent.
    Directory {
        /// Which.
        path: PathBuf,
        /// Its permissions, such as `0o755`.
        mode: u32,
    },
    /// Makes a symbolic link, if absent.
    Symlink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        to: PathBuf,
    },
    /// Makes `directory`, which must be a mount point, the root directory (`pivot_root`), and lets go of the old root.
    /// For the mount namespace of a process about to start; the last step.
    Root {
        /// The new root.
        directory: PathBuf,
    },
    /// Makes an empty file, if absent, to be the target of a [`Mount::Bind`]; its directory must exist.
    File {
        /// Which.
        path: PathBuf,
    },
}

/// Does all steps in order, in the current mount namespace.
///
/// # Errors
/// The first step that failed, named; earlier steps stay.
pub fn apply(steps: &[Mount]) -> io::Result<()> {
    let _ = steps;
    todo!()
}

/// Stops mounts from spreading out of this mount namespace, or into it.
///
/// # Errors
/// The kernel's.
pub fn make_private() -> io::Result<()> {
    todo!()
}

/// Lets what is mounted below `target`, which must be a mount point, later spread to the mount namespaces that are
/// copied from this one, as [`crate::process::Mounts::Private`] does it.
///
/// # Errors
/// The kernel's.
pub fn make_shared(target: &Path) -> io::Result<()> {
    let _ = target;
    todo!()
}

/// Takes a mount away, at once for new users and when the last user is done for old ones. An absent one is fine.
///
/// # Errors
/// The kernel's.
pub fn unmount(target: &Path) -> io::Result<()> {
    let _ = target;
    todo!()
}
