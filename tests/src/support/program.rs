//! The built command and the programs that others wrote, run by root or by an ordinary user, always with a deadline.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::skip;

/// A command that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A user without any right.
const NOBODY: u32 = 65534;

/// Labs at a time: the machines that this runs on have two cores.
const MOST_LABS: u32 = 2;

static LABS: Semaphore = Semaphore::const_new(MOST_LABS as usize);

/// Waits for the right to run a lab; it ends with the value.
pub(crate) async fn place_for_a_lab() -> SemaphorePermit<'static> {
    LABS.acquire().await.unwrap()
}

/// As [`place_for_a_lab`], for what is measured and wants the machine for itself.
pub(crate) async fn whole_machine() -> SemaphorePermit<'static> {
    LABS.acquire_many(MOST_LABS).await.unwrap()
}

/// Whoever runs the command.
#[derive(Debug)]
pub(crate) struct Caller {
    program: PathBuf,
    user: Option<u32>,
    /// A copy of the program, and where the user's labs keep their state.
    home: Option<tempfile::TempDir>,
}

impl Caller {
    /// Whoever runs the tests.
    pub(crate) fn own() -> Self {
        Self { program: built(), user: None, home: None }
    }

    /// An ordinary user; becoming one takes root, else it is whoever runs the tests.
    pub(crate) fn ordinary() -> Self {
        // The build directory may lie where others may not look.
        let home = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
        let program = home.path().join("aquifer");
        // By another process: a child that some other test starts meanwhile would have ours open for writing until it
        // runs its own program, and "Text file busy" would be the answer to ours.
        let copied = std::process::Command::new("cp").arg(built()).arg(&program).status().unwrap();
        assert!(copied.success(), "cp: {copied}");
        let runtime = home.path().join("run");
        fs::create_dir(&runtime).unwrap();
        let user = is_root().then_some(NOBODY);
        if let Some(user) = user {
            std::os::unix::fs::chown(&runtime, Some(user), Some(user)).unwrap();
        }
        Self { program, user, home: Some(home) }
    }

    /// The command's path.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where the ordinary user's labs keep their state.
    pub(crate) fn state(&self) -> Option<PathBuf> {
        self.home.as_ref().map(|home| home.path().join("run/aquifer"))
    }

    /// The command, which ends with its handle.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_remove("AQUIFER_LAB").env_remove("KUBECONFIG").current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Some(home) = &self.home {
            command.env("XDG_RUNTIME_DIR", home.path().join("run")).env("HOME", home.path());
        }
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs the command to its end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        output(self.command(arguments), &format!("aquifer {}", arguments.join(" "))).await
    }

    /// Runs the command to its end where nothing can be waited for asynchronously.
    pub(crate) fn run_blocking(&self, arguments: &[&str]) -> std::io::Result<Output> {
        self.command(arguments).into_std().output()
    }
}

/// Runs a command to its end; `what` names it when there is none.
pub(crate) async fn output(mut command: Command, what: &str) -> Output {
    let running = command.kill_on_drop(true).output();
    tokio::time::timeout(DEADLINE, running)
        .await
        .unwrap_or_else(|_| panic!("still running after {} s: {what}", DEADLINE.as_secs()))
        .unwrap_or_else(|error| panic!("cannot run {what}: {error}"))
}

/// The program under test: `AQUIFER_BIN`, or the one beside the directory that holds the tests.
fn built() -> PathBuf {
    let program = std::env::var_os("AQUIFER_BIN").map_or_else(beside_the_tests, PathBuf::from);
    assert!(program.is_file(), "{} is not there; build it with: cargo build -p aquifer", program.display());
    program
}

fn beside_the_tests() -> PathBuf {
    // target/debug/deps/end_to_end-0123456789abcdef
    let own = std::env::current_exe().unwrap();
    own.parent().and_then(Path::parent).unwrap().join("aquifer")
}

/// Whether root runs the tests.
pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Whether these programs are installed; says which are not.
pub(crate) fn has_peers(programs: &[&str]) -> bool {
    let absent: Vec<&str> = programs.iter().filter(|program| find(program).is_none()).copied().collect();
    if !absent.is_empty() {
        skip(&format!("not installed: {}", absent.join(", ")));
    }
    absent.is_empty()
}

/// The path of an installed program, for pods: they search the system's directories alone.
pub(crate) fn path_of(program: &str) -> String {
    find(program).unwrap_or_else(|| panic!("{program} is not installed")).display().to_string()
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// What a program printed.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
