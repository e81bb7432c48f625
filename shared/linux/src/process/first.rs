//! The first process of new namespaces, from within: between clone and exec, and as process 1.
//!
//! The parent may have threads, whose locks stay taken in the child. So the child only makes async-signal-safe calls
//! (signal-safety(7)) on what [`Launch`] holds ready: it neither allocates nor frees.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::MsFlags;
use nix::sys::prctl::{set_name, set_pdeathsig};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid, read, setsid, write};

use super::namespaces::Namespaces;
use super::one::be_process_one;
use crate::error::OperationError;
use crate::mount::set_propagation;

/// Room for the few calls of the child, in words of 16 bytes, which is how stacks are aligned: 128 KiB.
const STACK_WORDS: usize = 8192;

/// The exit status of a child that could not become the program, as shells have it.
const CANNOT_EXEC: c_int = 127;

/// How the process is started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    pub(super) namespaces: Namespaces,
    pub(super) dies_with_parent: bool,
    pub(super) new_session: bool,
}

/// How child and parent wait for each other.
#[derive(Debug)]
pub(super) struct Pipes {
    pub(super) hold: OwnedFd,
    pub(super) release: RawFd,
    pub(super) fault: OwnedFd,
}

/// Everything that the child needs.
#[derive(Debug)]
pub(super) struct Launch {
    program: CString,
    arguments: Pointers,
    environment: Pointers,
    /// Descriptors and the numbers under which the program finds them.
    files: Vec<(OwnedFd, RawFd)>,
    user_map: UserMap,
    /// Lets the child go on; ends without a byte if the parent is gone.
    hold: OwnedFd,
    /// The parent's end of the same pipe, of which the child must not keep its copy.
    release: RawFd,
    /// Tells the parent what failed.
    fault: OwnedFd,
    manner: Manner,
    first_stack: Vec<u128>,
    program_stack: Vec<u128>,
}

/// Texts with the list of pointers to them, ended by null, that execve wants.
#[derive(Debug)]
struct Pointers {
    _texts: Vec<CString>,
    pointers: Vec<*const c_char>,
}

/// Makes the caller's user and group root inside; see user_namespaces(7).
#[derive(Debug)]
struct UserMap {
    users: Vec<u8>,
    groups: Vec<u8>,
}

/// What failed in the child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Stage {
    User,
    Mounts,
    Fork,
    Files,
    Exec,
}

/// A failure in the child, as it crosses the pipe: the stage and the errno.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) stage: Stage,
    errno: i32,
}

impl Fault {
    fn encode(self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (stage, errno) = bytes.split_first()?;
        let stage = [Stage::User, Stage::Mounts, Stage::Fork, Stage::Files, Stage::Exec]
            .into_iter()
            .find(|known| *known as u8 == *stage)?;
        Some(Self { stage, errno: i32::from_ne_bytes(errno.try_into().ok()?) })
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let operation = match fault.stage {
            Stage::User => "mapping the user",
            Stage::Mounts => "making mounts private",
            Stage::Fork => "starting process 1",
            Stage::Files => "handing over files",
            Stage::Exec => "executing",
        };
        let source = Self::from_raw_os_error(fault.errno);
        Self::new(source.kind(), OperationError { operation: operation.to_owned(), source })
    }
}

impl Launch {
    pub(super) fn new(
        program: CString,
        arguments: Vec<CString>,
        environment: Vec<CString>,
        files: Vec<(OwnedFd, RawFd)>,
        pipes: Pipes,
        manner: Manner,
    ) -> Self {
        let Pipes { hold, release, fault } = pipes;
        Self {
            program,
            arguments: Pointers::new(arguments),
            environment: Pointers::new(environment),
            files,
            user_map: UserMap::of_caller(),
            hold,
            release,
            fault,
            manner,
            first_stack: vec![0; STACK_WORDS],
            program_stack: vec![0; STACK_WORDS],
        }
    }

    /// Makes the child in its new namespaces. All signals must be blocked.
    pub(super) fn start(&self) -> Result<libc::pid_t, Errno> {
        self.clone_into(run_first, &self.first_stack, self.manner.namespaces.flags().bits())
    }

    /// Makes a child that runs `function`, as fork does, but on a stack and in namespaces of its own.
    fn clone_into(
        &self,
        function: extern "C" fn(*mut c_void) -> c_int,
        stack: &[u128],
        flags: c_int,
    ) -> Result<libc::pid_t, Errno> {
        let top = stack.as_ptr_range().end.cast_mut().cast::<c_void>();
        let launch = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: without CLONE_VM the child works on a copy of all memory, so that neither the stack nor `self` is
        // shared; the stack grows down from its aligned end, and `function` takes what `launch` points to.
        // WHY: a child in a new pid namespace cannot be had through std::process, and fork takes locks that another
        // thread may have held when the calling process was itself cloned.
        let made = unsafe { libc::clone(function, top, flags | libc::SIGCHLD, launch) };
        Errno::result(made)
    }

    fn first(&self) -> c_int {
        if self.manner.dies_with_parent && set_pdeathsig(Signal::SIGKILL).is_err() {
            return CANNOT_EXEC;
        }
        // SAFETY: nobody in the child uses the descriptor.
        // WHY: its owner is the parent's.
        unsafe { libc::close(self.release) };
        // A parent that ended before it was watched leaves the pipe without a byte.
        if !matches!(read(&self.hold, &mut [0]), Ok(1)) {
            return CANNOT_EXEC;
        }
        let namespaces = self.manner.namespaces;
        if namespaces.user
            && let Err(error) = self.user_map.write()
        {
            return self.fail(Stage::User, error);
        }
        if namespaces.mount
            && let Err(error) = set_propagation(c"/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)
        {
            return self.fail(Stage::Mounts, error);
        }
        if !namespaces.pid {
            return self.become_program();
        }
        // What `ps` shows of process 1; the program gets its own name when it is executed.
        let _ = set_name(c"init");
        // A caller that ignores SIGCHLD would leave no exit status to collect.
        // SAFETY: the default action runs no code of ours.
        // WHY: nix has no safe way to set a disposition.
        let _ = unsafe { signal(Signal::SIGCHLD, SigHandler::SigDfl) };
        match self.clone_into(run_program, &self.program_stack, 0) {
            Ok(program) => be_process_one(program),
            Err(error) => self.fail(Stage::Fork, error),
        }
    }

    fn become_program(&self) -> c_int {
        if self.manner.new_session {
            // Fails only for the leader of a group, which a new process is not.
            let _ = setsid();
        }
        for (file, target) in &self.files {
            // SAFETY: both are numbers; whatever `target` was in this process, nobody here uses it any more.
            // WHY: nix's dup2 wants an owner for the target, which the program will be.
            if let Err(error) = Errno::result(unsafe { libc::dup2(file.as_raw_fd(), *target) }) {
                return self.fail(Stage::Files, error);
            }
        }
        // A Rust program ignores SIGPIPE, and what is ignored stays so across exec; std does the same for its children.
        // SAFETY: the default action runs no code of ours.
        // WHY: nix has no safe way to set a disposition.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
        let _ = SigSet::empty().thread_set_mask();
        let (arguments, environment) = (self.arguments.as_ptr(), self.environment.as_ptr());
        // SAFETY: the program and all texts end with a NUL byte, both lists with a null pointer, and all outlive the
        // call, after which there is no such memory or an error.
        // WHY: nix's execve allocates the lists.
        unsafe { libc::execve(self.program.as_ptr(), arguments, environment) };
        self.fail(Stage::Exec, Errno::last())
    }

    fn fail(&self, stage: Stage, error: Errno) -> c_int {
        let _ = write(&self.fault, &Fault { stage, errno: error as i32 }.encode());
        CANNOT_EXEC
    }
}

impl UserMap {
    fn of_caller() -> Self {
        let line = |number: u32| format!("0 {number} 1").into_bytes();
        Self { users: line(geteuid().as_raw()), groups: line(getegid().as_raw()) }
    }

    /// The child does this for itself: the parent may know it by another number than its `/proc` does.
    fn write(&self) -> Result<(), Errno> {
        // Before the groups: an ordinary user may not map them otherwise, because leaving a group could gain access.
        write_file(c"/proc/self/setgroups", b"deny")?;
        write_file(c"/proc/self/gid_map", &self.groups)?;
        write_file(c"/proc/self/uid_map", &self.users)
    }
}

fn write_file(path: &CStr, content: &[u8]) -> Result<(), Errno> {
    let file = open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    write(&file, content).map(drop)
}

impl Pointers {
    fn new(texts: Vec<CString>) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect();
        Self { _texts: texts, pointers }
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr()
    }
}

extern "C" fn run_first(launch: *mut c_void) -> c_int {
    // SAFETY: `clone_into` passes the launch that it was called on, which nobody changes and which lives as long as
    // this copy of memory.
    // WHY: clone hands over a bare pointer.
    let launch = unsafe { &*launch.cast::<Launch>() };
    leave(launch.first())
}

extern "C" fn run_program(launch: *mut c_void) -> c_int {
    // SAFETY: as in `run_first`.
    // WHY: clone hands over a bare pointer.
    let launch = unsafe { &*launch.cast::<Launch>() };
    leave(launch.become_program())
}

/// Ends the process without running what the parent has registered for its own end.
fn leave(status: c_int) -> ! {
    // SAFETY: the call does not return and runs no code of this program.
    // WHY: std's exit runs handlers and takes locks.
    unsafe { libc::_exit(status) }
}
