//! What a lab leaves in the caller's file system: one directory, private to the user, that tells other commands where
//! the lab is.
//!
//! A lock that the lab's processes hold says whether it lives; what a killed lab left behind is removed by the next
//! start.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::families::Families;
use crate::files;

/// Longest name of a lab: it is part of a socket's path, which holds 107 bytes.
const MAX_NAME: usize = 32;

/// How often directories are made again that were taken away at once.
const ATTEMPTS: u32 = 1000;

/// What other commands need to know about a running lab.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The lab's name.
    pub name: String,
    /// The first process of the lab, as the caller's namespace numbers it.
    pub pid: u32,
    /// When that process started, in clock ticks since boot: tells it from a later one with the same number.
    pub process_started: u64,
    /// Where the Kubernetes API is served.
    pub api: std::net::SocketAddr,
    /// How many nodes it has.
    pub nodes: u8,
    /// In which address families its nodes, pods and Services have addresses.
    pub families: Families,
    /// When it was started, RFC 3339.
    pub started: String,
    /// Version of the program that started it.
    pub version: String,
}

/// Why a lab cannot be found or started.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The name cannot be part of a path.
    #[error("lab name {0:?} is not made of 1 to {MAX_NAME} lower-case letters, digits and dashes")]
    Name(String),
    /// A lab of that name runs.
    #[error("lab {name:?} runs already{}", pid.map(|pid| format!(" as process {pid}")).unwrap_or_default())]
    Running {
        /// The lab's name.
        name: String,
        /// Its first process, if it has said so already.
        pid: Option<u32>,
    },
    /// No lab of that name runs.
    #[error("no lab {0:?} runs")]
    NotRunning(String),
    /// The directory belongs to somebody else.
    #[error("{path} belongs to another user")]
    Foreign {
        /// The directory.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot use the lab's directory {path}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// Where the state of one lab is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDirectory {
    name: String,
    path: PathBuf,
}

/// The right to run a lab of a name: as long as any process holds it, nobody else can start one.
#[derive(Debug)]
pub struct Claim {
    /// Where the state is.
    pub directory: StateDirectory,
    /// The lock, to be handed to the lab's processes.
    pub lock: File,
}

impl StateDirectory {
    /// The directory of lab `name`: below `/run/aquifer` for root, else below `runtime` (`XDG_RUNTIME_DIR`), or below
    /// `/tmp/aquifer-<uid>` without it.
    ///
    /// # Errors
    /// [`StateError::Name`].
    pub fn new(name: &str, runtime: Option<&Path>) -> Result<Self, StateError> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(is_plain) {
            return Err(StateError::Name(name.to_owned()));
        }
        let base = match (user_id(), runtime) {
            (0, _) => PathBuf::from("/run/aquifer"),
            (_, Some(runtime)) if runtime.is_dir() => runtime.join("aquifer"),
            (uid, _) => PathBuf::from(format!("/tmp/aquifer-{uid}")),
        };
        Ok(Self { name: name.to_owned(), path: base.join(name) })
    }

    /// A directory of the caller's choice, for tests.
    #[cfg(test)]
    pub(crate) fn at(name: &str, path: PathBuf) -> Self {
        Self { name: name.to_owned(), path }
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The socket that commands talk to the lab through.
    pub fn socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path.join("kubeconfig")
    }

    /// What the lab's own processes say.
    pub fn log(&self) -> PathBuf {
        self.path.join("lab.log")
    }

    /// Takes the name for a new lab. What a lab of that name left behind when it was killed is removed.
    ///
    /// # Errors
    /// [`StateError::Running`] while a lab of that name lives.
    pub fn claim(&self) -> Result<Claim, StateError> {
        let lock_path = self.path.join("lock");
        let lock = self.open_lock(&lock_path)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = self.read().ok().map(|record| record.pid);
                return Err(StateError::Running { name: self.name.clone(), pid });
            }
            Err(TryLockError::Error(source)) => return Err(StateError::Io { path: lock_path, source }),
        }
        for stale in [self.record_path(), self.kubeconfig(), self.socket(), self.log()] {
            files::remove(&stale).map_err(|source| StateError::Io { path: stale, source })?;
        }
        Ok(Claim { directory: self.clone(), lock })
    }

    /// Opens the file that is locked, in directories that are made for it.
    ///
    /// The end of another lab takes the common directory away when that is empty, which it is before the first lab's own
    /// directory is in it.
    fn open_lock(&self, path: &Path) -> Result<File, StateError> {
        let mut left = ATTEMPTS;
        loop {
            let opened = self.make_private().and_then(|()| {
                let mut options = OpenOptions::new();
                options.create(true).truncate(false).write(true).mode(0o600);
                options.open(path).map_err(|source| StateError::Io { path: path.to_owned(), source })
            });
            match opened {
                Err(StateError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound && left > 0 => left -= 1,
                opened => return opened,
            }
        }
    }

    /// What the running lab has said about itself.
    ///
    /// # Errors
    /// [`StateError::NotRunning`] when there is none, or it has not come up yet.
    pub fn record(&self) -> Result<Record, StateError> {
        // The lock is left alone: to look at it is to take it, and somebody may be about to start a lab.
        let record = self.read()?;
        if process_started(record.pid) == Some(record.process_started) {
            Ok(record)
        } else {
            Err(StateError::NotRunning(self.name.clone()))
        }
    }

    /// Writes what others need to know, readable only for this user.
    ///
    /// # Errors
    /// The file system's.
    pub fn write(&self, record: &Record, kubeconfig: &str) -> Result<(), StateError> {
        let failed = |path: PathBuf| move |source| StateError::Io { path, source };
        write_private(&self.kubeconfig(), kubeconfig.as_bytes()).map_err(failed(self.kubeconfig()))?;
        let text = serde_json::to_vec_pretty(record).map_err(io::Error::from).map_err(failed(self.record_path()))?;
        write_private(&self.record_path(), &text).map_err(failed(self.record_path()))
    }

    /// Removes the directory of a lab that has ended.
    ///
    /// # Errors
    /// The file system's; an absent directory is fine.
    pub fn remove(&self) -> Result<(), StateError> {
        match std::fs::remove_dir_all(&self.path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(StateError::Io { path: self.path.clone(), source })
            }
            _ => {
                // Other labs may be there, and then it stays.
                if let Some(base) = self.path.parent() {
                    let _ = std::fs::remove_dir(base);
                }
                Ok(())
            }
        }
    }

    fn read(&self) -> Result<Record, StateError> {
        let path = self.record_path();
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(StateError::NotRunning(self.name.clone()));
            }
            read => read.map_err(|source| StateError::Io { path: path.clone(), source })?,
        };
        serde_json::from_slice(&text).map_err(|error| StateError::Io { path, source: error.into() })
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("lab.json")
    }

    /// Makes the directory and its parent for this user alone. `/tmp` is everybody's: what is there already must be
    /// this user's own directory, not a link that somebody else has laid.
    fn make_private(&self) -> Result<(), StateError> {
        let directories = [self.path.parent(), Some(self.path.as_path())];
        for directory in directories.into_iter().flatten() {
            let failed = |source| StateError::Io { path: directory.to_owned(), source };
            match DirBuilder::new().mode(0o700).create(directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
                _ => {}
            }
            let found = std::fs::symlink_metadata(directory).map_err(failed)?;
            if !found.is_dir() || found.uid() != user_id() {
                return Err(StateError::Foreign { path: directory.to_owned() });
            }
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Ok(())
    }
}

/// The user that this process runs as.
fn user_id() -> u32 {
    // The owner of a process's directory is the process's user; without /proc nothing else works either.
    std::fs::metadata("/proc/self").map_or(u32::MAX, |found| found.uid())
}

/// When a process started, in clock ticks since boot; `None` when there is no such process, or only its exit status.
pub(crate) fn process_started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (state != "Z").then_some(started)
}

/// Readable for this user alone; whoever reads sees the old content or the new one.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    files::replace(path, |new| files::write(new, content, 0o600))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            name: "t".to_owned(),
            pid: std::process::id(),
            process_started: process_started(std::process::id()).unwrap(),
            api: ([127, 0, 0, 1], 6443).into(),
            nodes: 2,
            families: Families::Dual,
            started: "2026-01-01T00:00:00Z".to_owned(),
            version: "0.1.0".to_owned(),
        }
    }

    fn directory() -> (tempfile::TempDir, StateDirectory) {
        let temporary = tempfile::tempdir().unwrap();
        let state = StateDirectory::at("t", temporary.path().join("aquifer/t"));
        (temporary, state)
    }

    #[test]
    fn a_claim_lasts_as_long_as_its_lock() {
        let (_temporary, state) = directory();
        let claim = state.claim().unwrap();
        assert!(matches!(state.claim(), Err(StateError::Running { pid: None, .. })));
        state.write(&record(), "").unwrap();
        let pid = Some(std::process::id());
        assert!(matches!(state.claim(), Err(StateError::Running { pid: found, .. }) if found == pid));
        drop(claim);
        assert!(state.claim().is_ok());
    }

    #[test]
    fn a_record_is_found_while_the_lab_lives_and_gone_with_the_next_claim() {
        let (_temporary, state) = directory();
        let claim = state.claim().unwrap();
        assert!(matches!(state.record(), Err(StateError::NotRunning(_))));
        state.write(&record(), "apiVersion: v1").unwrap();
        assert_eq!(state.record().unwrap(), record());
        let mode = std::fs::metadata(state.kubeconfig()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it holds the administrator's token");
        let later = Record { process_started: record().process_started + 1, ..record() };
        state.write(&later, "").unwrap();
        assert!(matches!(state.record(), Err(StateError::NotRunning(_))), "that process is another one");
        drop(claim);
        let _claim = state.claim().unwrap();
        assert!(!state.kubeconfig().exists());
    }

    #[test]
    fn a_claim_succeeds_while_other_labs_end() {
        let temporary = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for name in ["a", "b", "c", "d"] {
                let state = StateDirectory::at(name, temporary.path().join("aquifer").join(name));
                scope.spawn(move || {
                    for _ in 0..150 {
                        drop(state.claim().unwrap());
                        state.remove().unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn a_link_in_place_of_the_directory_is_refused() {
        let (temporary, state) = directory();
        std::os::unix::fs::symlink("/etc", temporary.path().join("aquifer")).unwrap();
        assert!(matches!(state.claim(), Err(StateError::Foreign { .. } | StateError::Io { .. })));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["", "..", "a/b", "A", "a b", &"x".repeat(33)] {
            assert!(matches!(StateDirectory::new(name, None), Err(StateError::Name(_))), "{name}");
        }
        assert!(StateDirectory::new("lab-2", None).is_ok());
    }

    #[test]
    fn a_process_has_a_start_time() {
        assert!(process_started(std::process::id()).is_some_and(|ticks| ticks > 0));
        assert_eq!(process_started(u32::MAX), None);
    }
}
