//! `aquifer exec`: runs a program inside a lab.

use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use drain::{Signal, Signals};
use lab::control::Target;
use lab::control::client::{self, Exec};

use crate::lab_name::LabName;
use crate::program::command_runtime;

/// Exit code after a second SIGTERM, as shells tell it.
const TERMINATED: u8 = 143;

/// Run a program in a pod, on a node, or on the network between the nodes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer exec cart -n shop -- curl -s http://frontend/
  aquifer exec cart -n shop -- sh
  aquifer exec --node node-1 -- aquifer echo client load --url http://10.244.1.2:8080/ --for 1s

Programs are those of this machine; `aquifer` is this very program.")]
pub(crate) struct ExecArgs {
    #[command(flatten)]
    lab: LabName,
    /// The pod.
    #[arg(required_unless_present_any = ["node", "fabric"])]
    pod: Option<String>,
    /// The pod's namespace.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// The container, if the pod has several.
    #[arg(long, short, value_name = "CONTAINER")]
    container: Option<String>,
    /// Run in the network of a node instead of a pod.
    #[arg(long, value_name = "NODE", conflicts_with_all = ["pod", "container", "fabric"])]
    node: Option<String>,
    /// Run in the network that joins the nodes.
    #[arg(long, conflicts_with_all = ["pod", "container"])]
    fabric: bool,
    /// Set a variable for the program.
    #[arg(long, short, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb; the exit code is the program's.
pub(crate) fn run(args: ExecArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    let target = match (args.pod, args.node) {
        (Some(pod), _) => {
            let pod = pod.strip_prefix("pod/").unwrap_or(&pod).to_owned();
            Target::Pod { namespace: args.namespace, pod, container: args.container }
        }
        (None, Some(node)) => Target::Node(node),
        (None, None) => Target::Fabric,
    };
    let environment = args.env.iter().map(|pair| variable(pair)).collect::<Result<_>>()?;
    let standard = standard().context("cannot hand over standard input and output")?;
    let exec = Exec { target, command: args.command, environment, standard };
    command_runtime()?.block_on(async {
        let mut signals = Signals::install().context("cannot watch for signals")?;
        let running = client::exec(&directory, exec).await?;
        let mut is_told = false;
        loop {
            tokio::select! {
                code = running.wait() => {
                    let code = u8::try_from(code?).unwrap_or(u8::MAX);
                    return Ok(ExitCode::from(code));
                }
                signal = signals.next() => match signal {
                    Signal::Interrupt => running.interrupt().await?,
                    // A program that does not listen is ended by our leaving.
                    Signal::Terminate if is_told => return Ok(ExitCode::from(TERMINATED)),
                    Signal::Terminate => {
                        is_told = true;
                        running.terminate().await?;
                    }
                },
            }
        }
    })
}

fn variable(pair: &str) -> Result<(String, String)> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("--env {pair:?} is not of the form NAME=VALUE"),
    }
}

fn standard() -> std::io::Result<[OwnedFd; 3]> {
    Ok([
        std::io::stdin().as_fd().try_clone_to_owned()?,
        std::io::stdout().as_fd().try_clone_to_owned()?,
        std::io::stderr().as_fd().try_clone_to_owned()?,
    ])
}
