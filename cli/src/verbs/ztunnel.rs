//! `aquifer ztunnel`: the node proxy.

use std::process::ExitCode;

use anyhow::Result;

use crate::program::{self, Program};

/// Runs the component; connections run on threads that it makes itself.
pub(crate) fn run() -> Result<ExitCode> {
    let config = config::Ztunnel::from(&program::environment()?)?;
    let logging = program::log(&config.log)?;
    let program = Program { name: "ztunnel", grace: config.drain_deadline, threads: 1 };
    program.run(|trigger| ztunnel::run(config, &logging, trigger))
}
