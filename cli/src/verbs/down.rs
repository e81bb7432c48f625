//! `aquifer down`: ends a lab.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use lab::control::client;

use crate::lab_name::LabName;
use crate::output;
use crate::program::command_runtime;

/// End a lab and everything in it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer down
  aquifer down --name other")]
pub(crate) struct DownArgs {
    #[command(flatten)]
    lab: LabName,
}

/// Runs the verb.
pub(crate) fn run(args: &DownArgs) -> Result<ExitCode> {
    let directory = args.lab.directory()?;
    command_runtime()?.block_on(client::down(&directory))?;
    output::write(&format!("lab {:?} is gone\n", directory.name()))?;
    Ok(ExitCode::SUCCESS)
}
