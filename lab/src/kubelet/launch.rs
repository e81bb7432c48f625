//! Starts and ends the process of a container.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use linux::NetNs;
use linux::mount::Mount;
use linux::process::{Confinement, Mounts, Signal, confine, kill, kill_group, mount_namespace_of};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use super::image::Program;
use super::roster::Process;

/// Everything that a container's process starts with.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) network: NetNs,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) host_name: String,
    pub(crate) directory: PathBuf,
}

/// A container's process.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) child: Child,
    pid: u32,
    process: Option<Process>,
    /// The mount namespace as `/proc` names it: every process of the container is in it.
    namespace: Option<PathBuf>,
}

/// Starts it. Blocks for some milliseconds; needs a Tokio runtime.
///
/// # Errors
/// Which step failed.
pub(crate) fn start(plan: Plan) -> io::Result<Running> {
    let mut command = std::process::Command::new(&plan.program.path);
    command
        .arg0(&plan.program.name)
        .args(&plan.program.arguments)
        .env_clear()
        .envs(plan.environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let confinement = Confinement {
        network: Some(plan.network.clone()),
        mounts: Mounts::Private(plan.mounts),
        host_name: Some(plan.host_name.clone()),
        directory: Some(plan.directory),
        new_session: true,
        parent_death: None,
    };
    let report = confine(&mut command, &confinement)?;
    let child = spawn(Command::from(command)).map_err(|error| report.explain(error))?;
    let pid = child.id().ok_or_else(|| io::Error::other("the process ended before it began"))?;
    // A program that has ended already has no namespaces to enter any more; that is not an error.
    let process = mount_namespace_of(pid).ok().map(|mounts| Process {
        network: plan.network,
        mounts,
        host_name: plan.host_name,
        environment: plan.environment,
    });
    let namespace = namespace_of(pid).filter(|found| namespace_of(std::process::id()).as_ref() != Some(found));
    Ok(Running { child, pid, process, namespace })
}

impl Running {
    /// How to enter the container, if it still ran when it was looked at.
    pub(crate) fn process(&self) -> Option<Process> {
        self.process.clone()
    }

    /// Asks the process to end, and after `grace` ends it. Returns once it has ended.
    pub(crate) async fn end(&mut self, grace: Duration) -> io::Result<std::process::ExitStatus> {
        kill(self.pid, Signal::Terminate)?;
        match tokio::time::timeout(grace, self.child.wait()).await {
            Ok(ended) => ended,
            Err(_) => {
                kill(self.pid, Signal::Kill)?;
                // No deadline: the kernel ends a killed process, and there is nothing else to wait for.
                self.child.wait().await
            }
        }
    }

    /// Ends what the container's process left behind, and what was started in it from outside.
    pub(crate) fn sweep(&self) {
        // What never left the session that the container began with is ended even without knowing its namespace.
        if let Err(error) = kill_group(self.pid, Signal::Kill) {
            tracing::debug!(%error, pid = self.pid, "a container's processes cannot be ended");
        }
        for pid in self.namespace.iter().flat_map(|namespace| processes_in(namespace)) {
            if let Err(error) = kill(pid, Signal::Kill) {
                tracing::debug!(%error, pid, "a container's process cannot be ended");
            }
        }
    }
}

/// The processes whose mount namespace is this one.
fn processes_in(namespace: &Path) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| namespace_of(*pid).is_some_and(|found| found == namespace))
        .collect()
}

fn namespace_of(pid: u32) -> Option<PathBuf> {
    std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()
}

/// A process that runs `program` inside a running container or in a network namespace of the lab.
///
/// # Errors
/// Which step failed.
pub(crate) fn enter(
    program: &Program,
    environment: &[(String, String)],
    network: &NetNs,
    mounts: Option<&Process>,
    standard: [Stdio; 3],
) -> io::Result<Child> {
    let mut command = std::process::Command::new(&program.path);
    let [input, output, error] = standard;
    command
        .arg0(&program.name)
        .args(&program.arguments)
        .env_clear()
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(input)
        .stdout(output)
        .stderr(error);
    let confinement = Confinement {
        network: Some(network.clone()),
        mounts: mounts.map_or(Mounts::Inherited, |process| Mounts::Of(Arc::clone(&process.mounts))),
        host_name: mounts.map(|process| process.host_name.clone()),
        directory: Some(PathBuf::from("/")),
        new_session: true,
        parent_death: None,
    };
    let report = confine(&mut command, &confinement)?;
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    spawn(command).map_err(|error| report.explain(error))
}

/// What the thread does that starts programs.
type Job = Box<dyn FnOnce() + Send>;

/// Programs that wait for that thread; more wait to be put down.
const WAITING: usize = 64;

/// Starts a program from a thread that lasts as long as this process.
///
/// Programs that ask the kernel to end them with their parent, as Envoy does, mean the thread that started them, and
/// those of a runtime's pool come and go.
fn spawn(mut command: Command) -> io::Result<Child> {
    static STARTER: OnceLock<Option<SyncSender<Job>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (jobs, waiting) = sync_channel::<Job>(WAITING);
        let work = move || waiting.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("starter".to_owned()).spawn(work).ok().map(|_lasting| jobs)
    });
    let is_over = || io::Error::other("there is no thread to start programs from");
    let runtime = Handle::current();
    let (sender, started) = sync_channel(1);
    let job = move || {
        let _runtime = runtime.enter();
        // Whoever asked waits for it.
        let _ = sender.send(command.spawn());
    };
    starter.as_ref().and_then(|starter| starter.send(Box::new(job)).ok()).ok_or_else(is_over)?;
    started.recv().map_err(|_| is_over())?
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_program_that_ends_with_its_parent_outlives_the_thread_that_asked_for_it() {
        let runtime = Handle::current();
        let short_lived = std::thread::spawn(move || {
            let _runtime = runtime.enter();
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "TERM", "sh", "-c", "echo asked; read word; echo $word"]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
            let mut child = spawn(command).unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
            let asked = runtime.block_on(output.next_line());
            assert_eq!(asked.unwrap().as_deref(), Some("asked"), "the kernel knows what it wants");
            (child, output)
        });
        let (mut child, mut output) = short_lived.join().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(b"alive\n").await.unwrap();
        assert_eq!(output.next_line().await.unwrap().as_deref(), Some("alive"));
        assert!(child.wait().await.unwrap().success());
    }
}
