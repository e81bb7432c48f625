//! Mount steps that are prepared before a fork and done after it.
//!
//! Between fork and exec only async-signal-safe calls are allowed (signal-safety(7)): [`Step::run`] allocates nothing
//! and takes no lock; it makes system calls with what [`Step::prepare`] got ready.

use std::ffi::{CStr, CString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, mknod, stat};
use nix::unistd::{FchownatFlags, chdir, fchownat, mkdir, pivot_root, symlinkat};

use super::Mount;
use crate::error::Named;

/// Permissions of directories on the way to the one that was asked for.
const PARENT_MODE: u32 = 0o755;

/// Permissions of a file that only serves as a mount point.
const FILE_MODE: u32 = 0o644;

/// A [`Mount`] with its texts as the kernel wants them.
#[derive(Debug)]
pub(crate) enum Step {
    Bind { source: CString, target: CString, read_only: bool },
    New { kind: &'static CStr, target: CString, flags: MsFlags, data: Option<CString> },
    Overlay(Overlay),
    Directory { parents: Vec<CString>, path: CString, mode: Mode },
    Symlink { path: CString, to: CString },
    File { path: CString },
    Root { directory: CString },
}

/// A writable layer over a directory.
#[derive(Debug)]
pub(crate) struct Overlay {
    directory: CString,
    scratch: CString,
    upper: CString,
    work: CString,
    data: CString,
}

impl Step {
    pub(crate) fn prepare(step: &Mount) -> io::Result<Self> {
        prepare(step).named(|| step.to_string())
    }

    /// Does the step. Async-signal-safe.
    pub(crate) fn run(&self) -> Result<(), Errno> {
        match self {
            Self::Bind { source, target, read_only } => {
                let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
                mount(Some(source.as_c_str()), target.as_c_str(), None::<&CStr>, flags, None::<&CStr>)?;
                if *read_only { make_read_only(target) } else { Ok(()) }
            }
            Self::New { kind, target, flags, data } => {
                mount(Some(*kind), target.as_c_str(), Some(*kind), *flags, data.as_deref())
            }
            Self::Overlay(overlay) => overlay.run(),
            Self::Directory { parents, path, mode } => {
                for parent in parents {
                    make_directory(parent, Mode::from_bits_truncate(PARENT_MODE))?;
                }
                make_directory(path, *mode)
            }
            Self::Symlink { path, to } => unless_exists(symlinkat(to.as_c_str(), AT_FDCWD, path.as_c_str())),
            Self::File { path } => {
                unless_exists(mknod(path.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(FILE_MODE), 0))
            }
            Self::Root { directory } => {
                // The old root ends up on top of the new one and is taken away; see pivot_root(2).
                chdir(directory.as_c_str())?;
                pivot_root(c".", c".")?;
                umount2(c".", MntFlags::MNT_DETACH)?;
                chdir(c"/")
            }
        }
    }
}

impl Overlay {
    fn prepare(directory: &Path, scratch: &Path) -> io::Result<Self> {
        let (upper, work) = (scratch.join("upper"), scratch.join("work"));
        let mut data = Vec::new();
        for (option, path) in [("lowerdir=", directory), (",upperdir=", &upper), (",workdir=", &work)] {
            data.extend(option.as_bytes());
            for byte in path.as_os_str().as_bytes() {
                if matches!(byte, b',' | b':' | b'\\') {
                    data.push(b'\\');
                }
                data.push(*byte);
            }
        }
        // Outside the first user namespace the attributes that overlays keep must be of the user's kind.
        if !is_first_user_namespace() {
            data.extend(b",userxattr");
        }
        Ok(Self {
            directory: c_path(directory)?,
            scratch: c_path(scratch)?,
            upper: c_path(&upper)?,
            work: c_path(&work)?,
            data: CString::new(data)?,
        })
    }

    fn run(&self) -> Result<(), Errno> {
        let private = Mode::S_IRWXU;
        // The upper directory lends its owner and permissions to the overlay's root.
        let lower = stat(self.directory.as_c_str())?;
        make_directory(&self.scratch, private)?;
        make_directory(&self.upper, Mode::from_bits_truncate(lower.st_mode))?;
        let (owner, group) = (Some(lower.st_uid.into()), Some(lower.st_gid.into()));
        // In a user namespace most owners do not exist; then the directory stays ours.
        let _ = fchownat(AT_FDCWD, self.upper.as_c_str(), owner, group, FchownatFlags::AT_SYMLINK_NOFOLLOW);
        make_directory(&self.work, private)?;
        let (target, data) = (self.directory.as_c_str(), Some(self.data.as_c_str()));
        mount(Some(c"overlay"), target, Some(c"overlay"), MsFlags::empty(), data)
    }
}

fn prepare(step: &Mount) -> io::Result<Step> {
    let no_devices = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(match step {
        Mount::Bind { source, target, read_only } => {
            Step::Bind { source: c_path(source)?, target: c_path(target)?, read_only: *read_only }
        }
        Mount::Tmpfs { target, size, mode } => {
            let size = size.map(|size| format!(",size={size}")).unwrap_or_default();
            let data = Some(CString::new(format!("mode={mode:o}{size}"))?);
            Step::New { kind: c"tmpfs", target: c_path(target)?, flags: no_devices, data }
        }
        Mount::Proc { target } => {
            let flags = no_devices | MsFlags::MS_NOEXEC;
            Step::New { kind: c"proc", target: c_path(target)?, flags, data: None }
        }
        Mount::Overlay { directory, scratch } => Step::Overlay(Overlay::prepare(directory, scratch)?),
        Mount::Directory { path, mode } => {
            let parents = parents(path).iter().map(|parent| c_path(parent)).collect::<io::Result<_>>()?;
            Step::Directory { parents, path: c_path(path)?, mode: Mode::from_bits_truncate(*mode) }
        }
        Mount::Symlink { path, to } => Step::Symlink { path: c_path(path)?, to: c_path(to)? },
        Mount::File { path } => Step::File { path: c_path(path)? },
        Mount::Root { directory } => Step::Root { directory: c_path(directory)? },
    })
}

/// The directories above `path`, outermost first, without the root.
fn parents(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = path.ancestors().skip(1).map(Path::to_owned).collect();
    found.retain(|parent| parent.components().any(|part| matches!(part, Component::Normal(_))));
    found.reverse();
    found
}

pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.to_owned().into_os_string().into_vec())?)
}

/// Says how mounts spread to and from copies of the mount namespace. Async-signal-safe.
pub(crate) fn set_propagation(target: &CStr, flags: MsFlags) -> Result<(), Errno> {
    mount(None::<&CStr>, target, None::<&CStr>, flags, None::<&CStr>)
}

fn make_directory(path: &CStr, mode: Mode) -> Result<(), Errno> {
    match mkdir(path, mode) {
        // The process's umask has taken permissions away.
        Ok(()) => fchmodat(AT_FDCWD, path, mode, FchmodatFlags::FollowSymlink),
        outcome => unless_exists(outcome),
    }
}

fn unless_exists(outcome: Result<(), Errno>) -> Result<(), Errno> {
    match outcome {
        Err(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

/// Refuses writes to all that is mounted at and below `target`, and keeps all other restrictions.
fn make_read_only(target: &CStr) -> Result<(), Errno> {
    /// `struct mount_attr` of mount_setattr(2).
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    /// `MOUNT_ATTR_RDONLY`
    const READ_ONLY: u64 = 1;
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path ends with a NUL byte, and the structure is as long as the last argument says; both outlive the
    // call, which writes to neither.
    // WHY: nix does not wrap mount_setattr, and mount(2) reaches one mount only and forgets restrictions that it must
    // repeat in a user namespace.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            target.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    Errno::result(outcome).map(drop)
}

/// Whether user numbers mean the same as on the bare machine.
fn is_first_user_namespace() -> bool {
    /// How many numbers the first namespace maps: all of them.
    const ALL: &str = "4294967295";
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", ALL])
}
