//! `aquifer completion`: what a shell needs to complete our commands.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Command};
use clap_complete::Shell;

use crate::output;

/// Print completions for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  source <(aquifer completion bash)                                       bash, this session
  aquifer completion zsh > \"${fpath[1]}/_aquifer\"                          zsh, from the next on
  aquifer completion fish > ~/.config/fish/completions/aquifer.fish       fish, from the next on")]
pub(crate) struct CompletionArgs {
    /// Which shell.
    shell: Shell,
}

/// Runs the verb for the whole command line.
pub(crate) fn run(args: &CompletionArgs, mut command: Command) -> Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "aquifer", &mut script);
    output::write(&String::from_utf8(script)?)?;
    Ok(ExitCode::SUCCESS)
}
