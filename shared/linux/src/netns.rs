//! Network namespaces as values: make one, open one, run a closure inside it, keep it alive by a path.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use nix::mount::{MntFlags, MsFlags};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::fstat;

use crate::error::Named;

/// The calling thread's own network namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

thread_local! {
    /// Where the thread is, once it has asked: nothing but [`NetNs::run`] moves a thread that goes on running Rust.
    static PLACE: RefCell<Option<NetNs>> = const { RefCell::new(None) };
}

/// A network namespace, kept alive by an open file; clones share the file.
#[derive(Debug, Clone)]
pub struct NetNs {
    file: Arc<OwnedFd>,
}

impl NetNs {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// When `/proc` is not mounted, or no more files can be opened.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new(CURRENT))
    }

    /// The namespace that `path` names: `/proc/<pid>/ns/net`, or a path made by [`NetNs::bind_to`].
    ///
    /// # Errors
    /// When the path cannot be opened, or does not name a network namespace.
    pub fn open(path: &Path) -> io::Result<Self> {
        let operation = || format!("opening network namespace {}", path.display());
        let file = File::open(path).named(operation)?;
        Self::from_fd(file.into()).named(operation)
    }

    /// The namespace of process `pid`.
    ///
    /// # Errors
    /// When there is no such process, or it may not be looked into.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// Takes a file that came from elsewhere, such as another process, after checking that it is a network namespace.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn from_fd(file: OwnedFd) -> io::Result<Self> {
        // The ioctl answers ENOTTY on everything but a namespace file; see ioctl_ns(2).
        // SAFETY: NS_GET_NSTYPE takes no argument and writes no memory; the descriptor is open for the whole call.
        // WHY: neither nix nor socket2 wraps this ioctl.
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), libc::NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file is not a network namespace"));
        }
        Ok(Self { file: Arc::new(file) })
    }

    /// A new, empty namespace, in which even `lo` is down; it ends with the last clone, process and path of it.
    ///
    /// # Errors
    /// When the process lacks `CAP_SYS_ADMIN` in its user namespace, or a limit is reached.
    pub fn create() -> io::Result<Self> {
        // The thread ends with the call, so that it need not go back.
        let made = thread::Builder::new().name("netns-create".into()).spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).named(|| "creating a network namespace".into())?;
            Self::current()
        })?;
        made.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// What identifies the namespace on this machine as long as it lives: device and inode of its file.
    ///
    /// # Panics
    /// Never: the file is open, and `fstat` on an open namespace file does not fail.
    pub fn id(&self) -> (u64, u64) {
        let status = fstat(&self.file).expect("fstat of an open namespace file does not fail");
        (status.st_dev, status.st_ino)
    }

    /// Runs `f` on this thread inside the namespace, then goes back to where the thread was.
    ///
    /// Sockets and netlink requests made by `f` belong to the namespace; threads and processes started by `f` do too.
    /// A panic of `f` goes on in the caller after the thread is back.
    /// The process is aborted if the thread cannot go back: anything it did from then on would happen in the wrong
    /// network.
    ///
    /// `f` must not await: another task would find itself in the namespace.
    ///
    /// # Errors
    /// When the namespace cannot be entered, which needs `CAP_SYS_ADMIN` in the user namespace that owns it and in the
    /// caller's own; `f` has not run then.
    pub fn run<T>(&self, f: impl FnOnce() -> T) -> io::Result<T> {
        let before = PLACE.take().map_or_else(Self::current, Ok)?;
        if let Err(error) = setns(&self.file, CloneFlags::CLONE_NEWNET) {
            PLACE.set(Some(before));
            return Err(error).named(|| "entering a network namespace".into());
        }
        PLACE.set(Some(self.clone()));
        let outcome = catch_unwind(AssertUnwindSafe(f));
        if let Err(error) = setns(&before.file, CloneFlags::CLONE_NEWNET) {
            tracing::error!(%error, "cannot leave a network namespace; aborting");
            std::process::abort();
        }
        PLACE.set(Some(before));
        Ok(outcome.unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Keeps the namespace alive under `path`, which is made if it is absent, as `ip netns` does.
    ///
    /// Undone by [`unbind`].
    ///
    /// # Errors
    /// When the file cannot be made, or mounting is refused.
    pub fn bind_to(&self, path: &Path) -> io::Result<()> {
        let operation = || format!("keeping a network namespace at {}", path.display());
        OpenOptions::new().create(true).append(true).open(path).named(operation)?;
        let source = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        nix::mount::mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).named(operation)
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl PartialEq for NetNs {
    fn eq(&self, other: &Self) -> bool {
        self.id() == other.id()
    }
}

impl Eq for NetNs {}

/// Takes away what [`NetNs::bind_to`] made: the mount and the file. What is absent is fine.
///
/// # Errors
/// When unmounting or removing is refused.
pub fn unbind(path: &Path) -> io::Result<()> {
    let operation = || format!("letting go of the network namespace at {}", path.display());
    match nix::mount::umount2(path, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => {}
        Err(error) => return Err(error).named(operation),
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).named(operation),
        _ => Ok(()),
    }
}
