//! How the mesh's components run: limits, log, runtime, signals, drain, exit code.

use std::fmt::Display;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use config::{LogFormat, Lookup};
use drain::{Ending, Signals, Trigger};
use telemetry::log::{Layout, Logging};
use tokio::runtime::{Builder, Runtime};

/// Exit code of a program that was interrupted, as shells tell it.
pub(crate) const INTERRUPTED: u8 = 130;

/// A component that is about to run.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    /// How long live work may take once the program was told to end.
    pub(crate) grace: Duration,
    /// Threads of the runtime; one runs on the calling thread.
    pub(crate) threads: usize,
}

/// The process environment, read once.
pub(crate) fn environment() -> Result<Lookup> {
    Ok(config::environment()?)
}

/// Sets up the log as configured.
pub(crate) fn log(log: &config::Log) -> Result<Logging> {
    let layout = match log.format {
        LogFormat::Plain => Layout::Plain,
        LogFormat::Json => Layout::Json,
    };
    Ok(telemetry::log::init(&log.filter, layout)?)
}

/// A runtime on the calling thread, for commands.
pub(crate) fn command_runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
}

impl Program {
    /// Runs the component that `start` makes until it has ended, by itself or because it was told to.
    pub(crate) fn run<F, E>(self, start: impl FnOnce(Trigger) -> F) -> Result<ExitCode>
    where
        F: Future<Output = Result<(), E>>,
        E: Into<anyhow::Error> + Display,
    {
        linux::process::raise_open_files()?;
        let runtime = match self.threads {
            0 | 1 => command_runtime()?,
            threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build()?,
        };
        runtime.block_on(async {
            let signals = Signals::install().context("cannot watch for signals")?;
            let (trigger, _watch) = drain::new();
            let program = Box::pin(start(trigger.clone()));
            match drain::supervise(signals, trigger, self.grace, program).await {
                Ending::Finished(Ok(())) => Ok(ExitCode::SUCCESS),
                Ending::Finished(Err(error)) => {
                    tracing::error!(%error, "{} ends", self.name);
                    Err(error.into())
                }
                Ending::Interrupted => Ok(ExitCode::from(INTERRUPTED)),
                Ending::Overdue { .. } => Ok(ExitCode::FAILURE),
            }
        })
    }
}
