//! `aquifer logs`: what a container has said.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lab::control::LogsRequest;
use lab::control::client;

use crate::lab_name::LabName;
use crate::program::command_runtime;

/// Show the log of a pod.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer logs ztunnel-node-1 -n aquifer-system
  aquifer logs cart -n shop --follow --tail 10
  aquifer logs cart -n shop --previous")]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    lab: LabName,
    /// The pod.
    pod: String,
    /// The pod's namespace.
    #[arg(long, short, value_name = "NAMESPACE", default_value = "default")]
    namespace: String,
    /// The container, if the pod has several.
    #[arg(long, short, value_name = "CONTAINER")]
    container: Option<String>,
    /// Go on with what is written later.
    #[arg(long, short)]
    follow: bool,
    /// The run before the current one.
    #[arg(long, short)]
    previous: bool,
    /// At most so many of the last lines.
    #[arg(long, value_name = "LINES")]
    tail: Option<u64>,
    /// Put the time before each line.
    #[arg(long)]
    timestamps: bool,
}

/// Runs the verb.
pub(crate) fn run(args: LogsArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    let request = LogsRequest {
        namespace: args.namespace,
        pod: args.pod.strip_prefix("pod/").unwrap_or(&args.pod).to_owned(),
        container: args.container,
        follow: args.follow,
        previous: args.previous,
        tail: args.tail,
        timestamps: args.timestamps,
    };
    command_runtime()?.block_on(async { client::logs(&directory, request, &mut tokio::io::stdout()).await })?;
    Ok(ExitCode::SUCCESS)
}
