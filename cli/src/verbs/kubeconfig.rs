//! `aquifer kubeconfig`: the way to a lab's API for kubectl.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::lab_name::LabName;
use crate::output;

/// Print the kubeconfig of a lab, or where it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  export KUBECONFIG=$(aquifer kubeconfig --path)
  aquifer kubeconfig > lab.kubeconfig")]
pub(crate) struct KubeconfigArgs {
    #[command(flatten)]
    lab: LabName,
    /// Print the file's path instead of its content.
    #[arg(long)]
    path: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &KubeconfigArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    directory.record()?;
    let path = directory.kubeconfig();
    let text = if args.path {
        format!("{}\n", path.display())
    } else {
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
    };
    output::write(&text)?;
    Ok(ExitCode::SUCCESS)
}
