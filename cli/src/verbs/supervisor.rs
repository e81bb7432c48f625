//! `aquifer lab-supervisor`: the lab's own process. Not for people.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

/// What the lab is to be.
#[derive(Debug, Args)]
pub(crate) struct SupervisorArgs {
    /// As `aquifer up` writes it.
    spec: String,
}

/// Runs the lab to its end.
pub(crate) fn run(args: &SupervisorArgs) -> Result<ExitCode> {
    lab::supervisor::run(&args.spec)?;
    Ok(ExitCode::SUCCESS)
}
