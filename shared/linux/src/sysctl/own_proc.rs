//! A view of `/proc` that is mounted nowhere and that nobody has made read-only.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::null;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

/// `FSOPEN_CLOEXEC` and `FSMOUNT_CLOEXEC`; see `linux/mount.h`.
const CLOSE_ON_EXEC: libc::c_int = 1;
/// `FSCONFIG_CMD_CREATE`.
const CREATE: libc::c_int = 6;
/// What commands of fsconfig(2) without a number get for it.
const NO_NUMBER: libc::c_int = 0;
/// `MOUNT_ATTR_NOSUID`, `MOUNT_ATTR_NODEV` and `MOUNT_ATTR_NOEXEC`.
const HARMLESS: libc::c_int = 0x2 | 0x4 | 0x8;

/// Writes a kernel parameter of the calling thread's network namespace.
pub(super) fn write(name: &str, value: &str) -> io::Result<()> {
    let path = format!("sys/{name}");
    let file = openat(&open()?, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    File::from(file).write_all(value.as_bytes())
}

/// Makes the view, which ends with the descriptor; needs `CAP_SYS_ADMIN`.
fn open() -> io::Result<OwnedFd> {
    // SAFETY: the name is a C string that outlives the call.
    // WHY: no safe wrapper of fsopen(2) exists in the dependencies.
    let context = owned(unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), CLOSE_ON_EXEC) })?;
    // SAFETY: the command takes neither key nor value; the descriptor is open for the whole call.
    // WHY: no safe wrapper of fsconfig(2) exists in the dependencies.
    let created = unsafe {
        libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), CREATE, null::<u8>(), null::<u8>(), NO_NUMBER)
    };
    if created < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: only numbers are passed; the descriptor is open for the whole call.
    // WHY: no safe wrapper of fsmount(2) exists in the dependencies.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), CLOSE_ON_EXEC, HARMLESS) })
}

/// Takes the descriptor that a system call returned.
fn owned(returned: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(returned).map_err(|_too_large| io::Error::from(io::ErrorKind::InvalidData))?;
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for the caller, and nobody else knows its number.
    // WHY: a system call without wrapper returns a number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
