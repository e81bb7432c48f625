//! What a command gets between fork and exec.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::unistd::{Pid, chdir, getpid, getppid, pipe2, read, sethostname, setsid, write};

use super::signal::Signal;
use crate::NetNs;
use crate::error::{Named, OperationError};
use crate::mount::{Mount, Step as MountStep, c_path, set_propagation};

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
    /// Starts a session of its own, whose processes can be ended together with [`super::kill_group`].
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
    Of(Arc<OwnedFd>),
}

/// Explains why a confined [`Command`] did not start.
#[derive(Debug)]
pub struct Report {
    /// Where a child that fails writes the number of its step.
    pipe: OwnedFd,
    steps: Vec<String>,
}

/// Makes `command` start as `confinement` says. Works with `tokio::process::Command::from(command)` too.
///
/// `Command::uid` and `Command::current_dir` act before the confinement does; do not use them together.
///
/// # Errors
/// When a path holds a NUL byte, or no more files can be opened.
pub fn confine(command: &mut Command, confinement: &Confinement) -> io::Result<Report> {
    let (names, steps): (Vec<String>, Vec<Step>) = steps(confinement)?.into_iter().unzip();
    let (pipe, failed) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let prepare = move || {
        for (number, step) in (0_u32..).zip(&steps) {
            if let Err(error) = step.run() {
                // The pipe only serves to explain; without it the error alone must do.
                let _ = write(&failed, &number.to_ne_bytes());
                return Err(io::Error::from_raw_os_error(error as i32));
            }
        }
        Ok(())
    };
    // SAFETY: the closure makes system calls with texts, descriptors and lists that exist already; it neither
    // allocates nor frees nor takes a lock, and an error from a raw number does not allocate.
    // WHY: there is no safe way to run code in the child before it becomes the program.
    unsafe { command.pre_exec(prepare) };
    Ok(Report { pipe, steps: names })
}

/// The mount namespace of process `pid`, for [`Mounts::Of`].
///
/// # Errors
/// When there is no such process, or it may not be looked into.
pub fn mount_namespace_of(pid: u32) -> io::Result<Arc<OwnedFd>> {
    let path = format!("/proc/{pid}/ns/mnt");
    let file = std::fs::File::open(&path).named(|| format!("opening {path}"))?;
    Ok(Arc::new(file.into()))
}

impl Report {
    /// Adds to the error of a failed spawn which step of the confinement failed, if one did.
    pub fn explain(&self, error: io::Error) -> io::Error {
        let mut number = [0; size_of::<u32>()];
        let step = match read(&self.pipe, &mut number) {
            Ok(length) if length == number.len() => usize::try_from(u32::from_ne_bytes(number)).ok(),
            _ => None,
        };
        match step.and_then(|step| self.steps.get(step)) {
            Some(operation) => {
                io::Error::new(error.kind(), OperationError { operation: operation.clone(), source: error })
            }
            None => error,
        }
    }
}

/// One thing that is done in the child.
enum Step {
    NewSession,
    ParentDeath { signal: nix::sys::signal::Signal, parent: Pid },
    Network(NetNs),
    HostName(OsString),
    NewMounts,
    Mount(MountStep),
    MountsOf(Arc<OwnedFd>),
    Directory(CString),
}

impl Step {
    /// Async-signal-safe.
    fn run(&self) -> Result<(), Errno> {
        match self {
            Self::NewSession => setsid().map(drop),
            Self::ParentDeath { signal, parent } => {
                set_pdeathsig(*signal)?;
                // The parent may have ended before it was watched.
                if getppid() == *parent { Ok(()) } else { Err(Errno::ESRCH) }
            }
            Self::Network(namespace) => setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET),
            Self::HostName(name) => {
                unshare(CloneFlags::CLONE_NEWUTS)?;
                sethostname(name)
            }
            Self::NewMounts => {
                unshare(CloneFlags::CLONE_NEWNS)?;
                set_propagation(c"/", MsFlags::MS_REC | MsFlags::MS_SLAVE)
            }
            Self::Mount(step) => step.run(),
            Self::MountsOf(namespace) => setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS),
            Self::Directory(path) => chdir(path.as_c_str()),
        }
    }
}

fn steps(confinement: &Confinement) -> io::Result<Vec<(String, Step)>> {
    let Confinement { network, mounts, host_name, directory, new_session, parent_death } = confinement;
    let mut steps: Vec<(String, Step)> = Vec::new();
    if *new_session {
        steps.push(("starting a session".into(), Step::NewSession));
    }
    if let Some(signal) = parent_death {
        let step = Step::ParentDeath { signal: (*signal).into(), parent: getpid() };
        steps.push(("watching the parent process".into(), step));
    }
    if let Some(namespace) = network {
        steps.push(("entering a network namespace".into(), Step::Network(namespace.clone())));
    }
    if let Some(name) = host_name {
        steps.push((format!("setting the host name to {name}"), Step::HostName(name.into())));
    }
    match mounts {
        Mounts::Inherited => {}
        Mounts::Private(mounts) => {
            steps.push(("making a mount namespace".into(), Step::NewMounts));
            for mount in mounts {
                steps.push((mount.to_string(), Step::Mount(MountStep::prepare(mount)?)));
            }
        }
        Mounts::Of(namespace) => {
            let name = format!("entering mount namespace {}", namespace.as_raw_fd());
            steps.push((name, Step::MountsOf(Arc::clone(namespace))));
        }
    }
    if let Some(directory) = directory {
        let name = format!("changing to directory {}", directory.display());
        let path = c_path(Path::new(directory)).named(|| name.clone())?;
        steps.push((name, Step::Directory(path)));
    }
    Ok(steps)
}
