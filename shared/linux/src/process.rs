//! Processes in namespaces of their own.
//!
//! [`Init`] starts the first process of new namespaces, with or without root; [`confine`] makes a
//! [`std::process::Command`] start inside a network namespace with its own view of the file system.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use crate::NetNs;
use crate::mount::Mount;

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

/// Which namespaces a process gets for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    /// Users: the caller's user becomes root inside. Needed for all others unless the caller is root.
    pub user: bool,
    /// Mounts.
    pub mount: bool,
    /// Processes.
    pub pid: bool,
    /// Network.
    pub network: bool,
    /// Host name.
    pub host_name: bool,
}

/// Why namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// A kernel setting forbids it.
    #[error(
        "the kernel refuses namespaces to ordinary users: {setting} is {value}; run as root, or set it with: sudo sysctl -w {setting}={wanted}"
    )]
    Setting {
        /// The setting's name, as `sysctl` wants it.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// The kernel refused, and no known setting explains it; a container's seccomp profile often does this.
    #[error("the kernel refuses new namespaces, and no known setting explains it (inside a container?)")]
    Refused(#[source] io::Error),
    /// The user mapping could not be written.
    #[error("mapping the user into a new user namespace")]
    Mapping(#[source] io::Error),
    /// The program could not be started inside.
    #[error("starting {program} in new namespaces")]
    Start {
        /// What was to be started.
        program: String,
        /// Why it was not.
        #[source]
        source: io::Error,
    },
}

/// The first program of new namespaces, and how it is started.
///
/// In a new pid namespace a small process of ours is process 1 and the program its child: process 1 collects orphans,
/// so that the program's own children are never collected by anyone but the program, hands signals on, and ends with
/// the program's exit status; with it every process of the namespace ends.
#[derive(Debug)]
pub struct Init {
    /// The program; default `/proc/self/exe`, this very program.
    pub program: PathBuf,
    /// Its arguments, from `argv[0]` on.
    pub arguments: Vec<OsString>,
    /// Variables added to the environment, which is inherited.
    pub environment: Vec<(OsString, OsString)>,
    /// Standard input, output and error; `None` is the caller's own.
    pub standard: [Option<OwnedFd>; 3],
    /// Files that the program finds open as descriptors 3, 4, ….
    pub files: Vec<OwnedFd>,
    /// What it gets for itself.
    pub namespaces: Namespaces,
    /// Ends with the **thread** that called [`Init::start`].
    pub dies_with_parent: bool,
    /// Starts a session of its own, without the terminal.
    pub new_session: bool,
}

/// A running [`Init`].
#[derive(Debug)]
pub struct InitProcess {
    pid: u32,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

/// What a [`Command`] gets when it starts.
#[derive(Debug, Clone, Default)]
pub struct Confinement {
    /// The network namespace that it runs in; `None` is the caller's.
    pub network: Option<NetNs>,
    /// Its mounts.
    pub mounts: Mounts,
    /// A host name of its own.
    pub host_name: Option<String>,
    /// Its working directory, looked up after mounting (`Command::current_dir` is looked up before).
    pub directory: Option<PathBuf>,
    /// Starts a session of its own, whose processes can be ended together with [`kill_group`].
    pub new_session: bool,
    /// The signal it gets when the **thread** that spawned it ends. Leave it out when spawning from a thread pool.
    pub parent_death: Option<Signal>,
}

/// A [`Confinement`]'s view of the file system.
#[derive(Debug, Clone, Default)]
pub enum Mounts {
    /// The caller's own.
    #[default]
    Inherited,
    /// A copy of the caller's, from which nothing spreads, with these steps done in order. What is mounted later below
    /// a mount that the caller made shared ([`crate::mount::make_shared`]) shows up in it (`MS_REC | MS_SLAVE`).
    Private(Vec<Mount>),
    /// The one of a running process, opened with [`mount_namespace_of`].
    Of(std::sync::Arc<OwnedFd>),
}

/// Explains why a confined [`Command`] did not start.
#[derive(Debug)]
pub struct Report {
    pipe: OwnedFd,
    steps: Vec<String>,
}

/// A handle on a process that can never mean another one.
#[derive(Debug)]
pub struct PidFd {
    file: OwnedFd,
}

impl Namespaces {
    /// All of them: what an ordinary user needs.
    pub const ALL: Self = Self { user: true, mount: true, pid: true, network: true, host_name: true };
    /// All but users: what root needs.
    pub const AS_ROOT: Self = Self { user: false, ..Self::ALL };
}

/// Whether this process may make namespaces and configure networks without a user namespace of its own
/// (`CAP_SYS_ADMIN` and `CAP_NET_ADMIN`).
pub fn is_privileged() -> bool {
    todo!()
}

impl Init {
    /// This very program with `arguments` (after `argv[0]`), in `namespaces`.
    pub fn new(arguments: impl IntoIterator<Item = OsString>, namespaces: Namespaces) -> Self {
        let _ = (arguments.into_iter().count(), namespaces);
        todo!()
    }

    /// Starts it. The program finds its mounts private, and otherwise as the caller's; see [`Mount::Proc`].
    ///
    /// # Errors
    /// [`NamespaceError`], which names the kernel setting in the way if there is one.
    pub fn start(self) -> Result<InitProcess, NamespaceError> {
        todo!()
    }
}

impl InitProcess {
    /// Its process number, as the caller sees it.
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// Sends a signal; the program gets it. An ended process is fine.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let _ = signal;
        todo!()
    }

    /// Waits for its end, and with it the end of all its namespaces' processes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        let _ = self.status;
        todo!()
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        todo!()
    }
}

impl AsFd for InitProcess {
    /// A pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Makes `command` start as `confinement` says. Works with `tokio::process::Command::from(command)` too.
///
/// `Command::uid` and `Command::current_dir` act before the confinement does; do not use them together.
///
/// # Errors
/// When a path holds a NUL byte, or no more files can be opened.
pub fn confine(command: &mut Command, confinement: &Confinement) -> io::Result<Report> {
    let _ = (command, confinement);
    todo!()
}

impl Report {
    /// Adds to the error of a failed spawn which step of the confinement failed, if one did.
    pub fn explain(&self, error: io::Error) -> io::Error {
        let _ = (&self.pipe, &self.steps, error);
        todo!()
    }
}

/// The mount namespace of process `pid`, for [`Mounts::Of`].
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn mount_namespace_of(pid: u32) -> io::Result<std::sync::Arc<OwnedFd>> {
    let _ = pid;
    todo!()
}

impl PidFd {
    /// Opens process `pid`.
    ///
    /// # Errors
    /// `NotFound` when there is no such process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let _ = pid;
        todo!()
    }

    /// Sends a signal. A process that has ended is fine.
    ///
    /// # Errors
    /// `PermissionDenied` for another user's process.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let _ = signal;
        todo!()
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
    let _ = (pid, signal);
    todo!()
}

/// Sends a signal to all processes of the group that `leader` leads. An absent one is fine.
///
/// # Errors
/// `PermissionDenied` for another user's processes.
pub fn kill_group(leader: u32, signal: Signal) -> io::Result<()> {
    let _ = (leader, signal);
    todo!()
}

/// Asks for `signal` when the **thread** that started this process ends.
///
/// # Errors
/// The kernel's.
pub fn set_parent_death(signal: Signal) -> io::Result<()> {
    let _ = signal;
    todo!()
}

/// Makes orphaned descendants of this process its children, in place of process 1's.
///
/// # Errors
/// The kernel's.
pub fn become_subreaper() -> io::Result<()> {
    todo!()
}

/// Raises the number of files that this process may open to the hard limit, and says what it is.
///
/// # Errors
/// The kernel's.
pub fn raise_open_files() -> io::Result<u64> {
    todo!()
}
