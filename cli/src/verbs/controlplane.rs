//! `aquifer controlplane`: the control plane.

use std::process::ExitCode;

use anyhow::Result;

use crate::kubernetes;
use crate::program::{self, Program};

/// Threads of the control plane: one may derive while the other serves.
const THREADS: usize = 2;

/// Runs the component.
pub(crate) fn run() -> Result<ExitCode> {
    let lookup = program::environment()?;
    let config = config::ControlPlane::from(&lookup)?;
    let _logging = program::log(&config.log)?;
    let program = Program { name: "controlplane", grace: config.drain_deadline, threads: THREADS };
    program.run(|trigger| async move {
        let client = kubernetes::client(&lookup).await?;
        controlplane::run(config, client, trigger.watch()).await?;
        anyhow::Ok(())
    })
}
