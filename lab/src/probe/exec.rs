//! A program in a running container: whether it ends with 0, and the beginning of what it says.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use linux::process::{Signal, kill_group};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio::process::Child;

use crate::kubelet::{Process, SEARCH_PATH, described, enter, exit_code, is_program, locate};

/// Most of a program's output that is kept, in bytes; the rest is read and dropped, so that it is not stopped by it.
const MAX_OUTPUT: usize = 1024;

/// How long what an ended program has written may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// A program that runs. Its end, or nobody's waiting for it any more, ends whatever it has started.
struct Running {
    child: Child,
    /// The session that it leads.
    pid: u32,
    output: Receiver,
    said: Vec<u8>,
}

/// Runs `command` in the container. Without deadline: dropping it kills the program.
pub(super) async fn run(command: &[String], process: Option<&Process>) -> Result<(), String> {
    let process = process.cloned().ok_or("the container does not run")?;
    let command = command.to_vec();
    let started = tokio::task::spawn_blocking(move || start(&command, &process)).await;
    let mut running = started.map_err(|error| error.to_string())??;
    let status = running.ended().await.map_err(|error| error.to_string())?;
    running.last_words().await;
    match (status.code(), running.said().trim()) {
        (Some(0), _) => Ok(()),
        (_, "") => Err(format!("the command ended with {}", exit_code(status))),
        (_, said) => Err(said.to_owned()),
    }
}

/// Blocks for some milliseconds; needs a Tokio runtime.
fn start(command: &[String], process: &Process) -> Result<Running, String> {
    let path = process.environment.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let program = locate(command, path.unwrap_or(SEARCH_PATH), is_program).map_err(|refusal| refusal.message)?;
    let begin = || -> io::Result<Running> {
        let (output, writer) = io::pipe()?;
        let output = Receiver::from_owned_fd(OwnedFd::from(output))?;
        let standard = [Stdio::null(), Stdio::from(writer.try_clone()?), Stdio::from(writer)];
        let child = enter(&program, &process.environment, &process.network, Some(process), standard)?;
        let pid = child.id().ok_or_else(|| io::Error::other("the program ended before it began"))?;
        Ok(Running { child, pid, output, said: Vec::new() })
    };
    begin().map_err(|error| described(&error))
}

impl Running {
    /// Waits for the program's end and reads what it says meanwhile.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        let mut chunk = [0; 512];
        let mut is_open = true;
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                read = self.output.read(&mut chunk), if is_open => match read {
                    Ok(length @ 1..) => keep(&mut self.said, &chunk, length),
                    _ => is_open = false,
                },
            }
        }
    }

    /// Reads what is left of the output; processes that were left behind may hold it open.
    async fn last_words(&mut self) {
        let all = async {
            let mut chunk = [0; 512];
            while let Ok(length @ 1..) = self.output.read(&mut chunk).await {
                keep(&mut self.said, &chunk, length);
            }
        };
        // What comes later than this is not worth waiting for.
        let _ = tokio::time::timeout(LAST_WORDS, all).await;
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = kill_group(self.pid, Signal::Kill) {
            tracing::debug!(%error, pid = self.pid, "a probe's processes cannot be ended");
        }
    }
}

fn keep(said: &mut Vec<u8>, chunk: &[u8], length: usize) {
    let room = MAX_OUTPUT.saturating_sub(said.len());
    said.extend(chunk.iter().take(length.min(room)));
}

#[cfg(test)]
mod tests;
