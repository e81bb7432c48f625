//! The first process of new namespaces, as its parent sees it.

use std::ffi::{CString, OsString};
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::pipe2;

use super::first::{Fault, Launch, Manner, Pipes, Stage};
use super::namespaces::{NamespaceError, Namespaces, explain, find_setting};
use super::signal::{PidFd, Signal};
use crate::error::Named;

/// The running program's own file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// The number of standard descriptors.
const STANDARD: RawFd = 3;

/// The first program of new namespaces, and how it is started.
///
/// In a new pid namespace a small process of ours is process 1 and the program its child: process 1 collects orphans,
/// so that the program's own children are never collected by anyone but the program, hands signals on, and ends with
/// the program's exit status (128 + N when signal N ended it); with it every process of the namespace ends.
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

/// A running [`Init`]. Dropping it neither ends the process nor collects its exit status.
#[derive(Debug)]
pub struct InitProcess {
    pid: u32,
    pidfd: PidFd,
    status: Option<ExitStatus>,
}

impl Init {
    /// This very program with `arguments` (after `argv[0]`), in `namespaces`.
    pub fn new(arguments: impl IntoIterator<Item = OsString>, namespaces: Namespaces) -> Self {
        let name = std::env::args_os().next().unwrap_or_else(|| THIS_PROGRAM.into());
        Self {
            program: THIS_PROGRAM.into(),
            arguments: std::iter::once(name).chain(arguments).collect(),
            environment: Vec::new(),
            standard: [None, None, None],
            files: Vec::new(),
            namespaces,
            dies_with_parent: false,
            new_session: false,
        }
    }

    /// Starts it. The program finds its mounts private, and otherwise as the caller's; see
    /// [`crate::mount::Mount::Proc`].
    ///
    /// # Errors
    /// [`NamespaceError`], which names the kernel setting in the way if there is one.
    pub fn start(self) -> Result<InitProcess, NamespaceError> {
        let program = self.program.display().to_string();
        let namespaces = self.namespaces;
        let failed = |source: io::Error| NamespaceError::Start { program: program.clone(), source };
        let (hold, mut release) = pipe().map_err(failed)?;
        let (mut faults, fault) = pipe().map_err(failed)?;
        let pipes = Pipes { hold: hold.into(), release: release.as_raw_fd(), fault: fault.into() };
        let launch = self.launch(pipes).map_err(failed)?;

        let pid = start_blocked(&launch).map_err(|error| explain(namespaces, error.into()))?;
        let mut process = InitProcess {
            pid: pid.unsigned_abs(),
            pidfd: PidFd::open(pid.unsigned_abs()).map_err(failed)?,
            status: None,
        };
        // The child's ends live on in the child alone.
        drop(launch);
        let outcome = release.write_all(&[0]).and_then(|()| {
            let mut report = Vec::new();
            faults.read_to_end(&mut report).map(|_| Fault::decode(&report))
        });
        match outcome {
            Ok(None) => Ok(process),
            Ok(Some(fault)) => {
                process.abandon();
                Err(match fault.stage {
                    Stage::User => find_setting("/proc/sys".as_ref(), namespaces)
                        .unwrap_or_else(|| NamespaceError::Mapping(fault.into())),
                    _ => failed(fault.into()),
                })
            }
            Err(error) => {
                process.abandon();
                Err(failed(error))
            }
        }
    }

    fn launch(self, pipes: Pipes) -> io::Result<Launch> {
        let Self { program, arguments, environment, standard, files, namespaces, dies_with_parent, new_session } = self;
        let mut variables: Vec<(OsString, OsString)> = std::env::vars_os().collect();
        variables.retain(|(name, _)| environment.iter().all(|(added, _)| added != name));
        variables.extend(environment);
        let variables = variables.into_iter().map(|(mut name, value)| {
            name.push("=");
            name.push(value);
            name
        });
        let wanted = (0..).zip(standard).filter_map(|(target, file)| Some((file?, target)));
        let wanted: Vec<(OwnedFd, RawFd)> = wanted.chain(files.into_iter().zip(STANDARD..)).collect();
        // Above all targets, so that putting one descriptor in its place never overwrites another.
        let above = wanted.iter().map(|(_, target)| target + 1).max().unwrap_or_default().max(STANDARD);
        let raised = wanted.into_iter().map(|(file, target)| Ok((raise(file, above)?, target)));
        Ok(Launch::new(
            c_text(program.into())?,
            arguments.into_iter().map(c_text).collect::<io::Result<_>>()?,
            variables.map(c_text).collect::<io::Result<_>>()?,
            raised.collect::<io::Result<_>>()?,
            Pipes { hold: raise(pipes.hold, above)?, fault: raise(pipes.fault, above)?, ..pipes },
            Manner { namespaces, dies_with_parent, new_session },
        ))
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
        self.pidfd.signal(signal)
    }

    /// Waits for its end, and with it the end of all its namespaces' processes.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.collect(0)? {
                return Ok(status);
            }
        }
    }

    /// Its exit status if it has ended.
    ///
    /// # Errors
    /// The kernel's.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.collect(libc::WNOHANG)
    }

    fn collect(&mut self, flags: libc::c_int) -> io::Result<Option<ExitStatus>> {
        if self.status.is_some() {
            return Ok(self.status);
        }
        let mut status = 0;
        let pid = self.pid.cast_signed();
        // SAFETY: the status is written to a variable of ours.
        // WHY: nix turns the status into an enum that knows no real-time signals and that std cannot take back.
        match Errno::result(unsafe { libc::waitpid(pid, &raw mut status, flags) }) {
            Ok(0) | Err(Errno::EINTR) => Ok(None),
            Ok(_) => {
                self.status = Some(ExitStatus::from_raw(status));
                Ok(self.status)
            }
            Err(error) => Err(error).named(|| format!("waiting for process {pid}")),
        }
    }

    /// Ends a process that did not get far enough to be of use.
    fn abandon(&mut self) {
        let ended = self.signal(Signal::Kill).and_then(|()| self.wait());
        if let Err(error) = ended {
            tracing::warn!(%error, pid = self.pid, "cannot end a process that failed to start");
        }
    }
}

impl AsFd for InitProcess {
    /// A pidfd: readable once the process has ended.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// Starts the child with all signals blocked: process 1 waits for them, and until then no handler of ours may run in
/// the child, which shares its descriptors.
fn start_blocked(launch: &Launch) -> Result<libc::pid_t, Errno> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let started = launch.start();
    before.thread_set_mask()?;
    started
}

fn pipe() -> io::Result<(fs::File, fs::File)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    Ok((reader.into(), writer.into()))
}

/// The same file under a number that is at least `above`.
fn raise(file: OwnedFd, above: RawFd) -> io::Result<OwnedFd> {
    let raised = fcntl(&file, FcntlArg::F_DUPFD_CLOEXEC(above))?;
    debug_assert_ne!(raised, file.as_raw_fd());
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    // WHY: nix returns the raw number.
    Ok(unsafe { OwnedFd::from_raw_fd(raised) })
}

fn c_text(text: OsString) -> io::Result<CString> {
    Ok(CString::new(text.into_vec())?)
}
