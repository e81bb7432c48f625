//! `aquifer demo`: the whole mesh in one command, each step checked by what can be observed from outside.

mod absence;
pub(crate) mod cluster;
mod components;
mod ipv6;
mod lab;
mod names;
mod policy;
mod report;
mod sabotage;
mod shop;
mod story;
mod succession;
mod traffic;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use drain::Signals;

use self::lab::Starting;
use self::report::Report;
use self::sabotage::Sabotage;
use crate::program::INTERRUPTED;

/// Show the mesh: captured, encrypted, authorised, released, and what becomes of traffic while its parts are replaced.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer demo                     everything, in about half a minute
  aquifer demo --keep              leave the lab up afterwards, to look around
  aquifer demo --sabotage policy   break the control plane: the policy step must then fail")]
pub(crate) struct DemoArgs {
    /// Leave the lab up at the end and say how to look around.
    #[arg(long)]
    keep: bool,
    /// Break the cause of one step, which must then fail: proof that the step looks at the real thing.
    #[arg(long, value_name = "STEP")]
    sabotage: Option<Sabotage>,
    /// Where an ordinary user's labs keep their state.
    #[arg(long, env = "XDG_RUNTIME_DIR", hide = true, value_name = "DIRECTORY")]
    runtime_directory: Option<PathBuf>,
}

/// Runs the verb; success only when every check passed.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode> {
    let mut report = Report::new();
    report.section("A lab: two nodes, an API server, the mesh's own components");
    // Before the runtime: namespaces are entered by a copy of this process, which must not have other threads.
    let starting = Starting::start(args.runtime_directory.as_deref(), args.keep)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::install()?;
        tokio::select! {
            outcome = Box::pin(show(args, &mut report, starting)) => outcome,
            // An attached lab ends with this process.
            _ = signals.next() => Ok(ExitCode::from(INTERRUPTED)),
        }
    })
}

async fn show(args: &DemoArgs, report: &mut Report, starting: Starting) -> Result<ExitCode> {
    let lab = starting.ready(report).await?;
    if let Err(error) = story::tell(report, &lab, args.sabotage).await {
        report.failure(&error);
    }
    if args.keep {
        report.section("The lab stays up");
        for line in lab.how_to_look_around() {
            report.note(&line);
        }
    } else {
        report.progress("ending the lab");
        if let Err(error) = lab.stop().await {
            report.failure(&error);
        }
    }
    Ok(if report.close() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
