//! `aquifer node`: the node agent.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;

use crate::kubernetes;
use crate::program::{self, Program};

/// The agent leaves captured pods as they are, so that it has little to do at its end.
const GRACE: Duration = Duration::from_secs(5);

/// Threads of the agent: namespaces are entered on threads that nothing else runs on meanwhile.
const THREADS: usize = 2;

/// Runs the component.
pub(crate) fn run() -> Result<ExitCode> {
    let lookup = program::environment()?;
    let config = config::Node::from(&lookup)?;
    let _logging = program::log(&config.log)?;
    let program = Program { name: "node", grace: GRACE, threads: THREADS };
    program.run(|trigger| async move {
        let client = kubernetes::client(&lookup).await?;
        node::run_with(config, client, trigger.watch()).await?;
        anyhow::Ok(())
    })
}
