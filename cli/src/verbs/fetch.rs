//! `aquifer fetch`: one HTTP request, made inside a lab for another command. Not for people.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::admin::http::{Method, Request};
use crate::output;
use crate::program::command_runtime;

/// Print the answer to one HTTP request.
#[derive(Debug, Args)]
pub(crate) struct FetchArgs {
    /// POST instead of GET.
    #[arg(long)]
    post: bool,
    /// Host and port.
    address: String,
    /// Path and query.
    path: String,
}

/// Runs the verb.
pub(crate) fn run(args: &FetchArgs) -> Result<ExitCode> {
    let method = if args.post { Method::Post } else { Method::Get };
    let request = Request { method, address: &args.address, path: &args.path };
    let text = command_runtime()?.block_on(request.send())?;
    output::write(&text)?;
    Ok(ExitCode::SUCCESS)
}
