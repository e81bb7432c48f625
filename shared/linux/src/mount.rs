//! Mounts in the calling process's mount namespace.

mod step;

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, umount2};

use crate::error::Named;
pub(crate) use step::{Step, c_path, set_propagation};

/// One step of preparing a file tree; see [`apply`] and [`crate::process::Confinement`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mount {
    /// Shows `source`, a file or directory with all that is mounted below it, at `target`, which must exist.
    Bind {
        /// What is shown.
        source: PathBuf,
        /// Where.
        target: PathBuf,
        /// Refuses writes through `target` and what is mounted below it. Needs Linux 5.12.
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
    for step in steps {
        Step::prepare(step)?.run().named(|| step.to_string())?;
    }
    Ok(())
}

/// Stops mounts from spreading out of this mount namespace, or into it.
///
/// # Errors
/// The kernel's.
pub fn make_private() -> io::Result<()> {
    set_propagation(c"/", MsFlags::MS_PRIVATE | MsFlags::MS_REC).named(|| "making mounts private".into())
}

/// Lets what is mounted below `target`, which must be a mount point, later spread to the mount namespaces that are
/// copied from this one, as [`crate::process::Mounts::Private`] does it.
///
/// # Errors
/// The kernel's.
pub fn make_shared(target: &Path) -> io::Result<()> {
    let operation = || format!("sharing the mounts below {}", target.display());
    let target = c_path(target).named(operation)?;
    set_propagation(&target, MsFlags::MS_SHARED).named(operation)
}

/// Takes a mount away, at once for new users and when the last user is done for old ones. An absent one is fine.
///
/// # Errors
/// The kernel's.
pub fn unmount(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        // It is no mount point, or does not exist.
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(error) => Err(error).named(|| format!("unmounting {}", target.display())),
    }
}

impl std::fmt::Display for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bind { source, target, .. } => write!(f, "showing {} at {}", source.display(), target.display()),
            Self::Tmpfs { target, .. } => write!(f, "mounting a tmpfs on {}", target.display()),
            Self::Overlay { directory, .. } => write!(f, "mounting an overlay on {}", directory.display()),
            Self::Proc { target } => write!(f, "mounting proc on {}", target.display()),
            Self::Directory { path, .. } => write!(f, "making directory {}", path.display()),
            Self::Symlink { path, to } => write!(f, "making link {} to {}", path.display(), to.display()),
            Self::Root { directory } => write!(f, "making {} the root directory", directory.display()),
            Self::File { path } => write!(f, "making file {}", path.display()),
        }
    }
}
