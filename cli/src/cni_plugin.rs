//! The same binary as a CNI plugin: a container runtime that calls it says so in the environment.

use std::process::ExitCode;

use crate::output;

/// Whether a container runtime has started this process.
pub(crate) fn is_called() -> bool {
    std::env::var_os(cni::invocation::COMMAND).is_some()
}

/// Does what the runtime asks for.
pub(crate) fn run() -> ExitCode {
    let answer = match config::environment() {
        Ok(lookup) => node::plugin::run(|name| lookup.variable(name), std::io::stdin().lock()),
        Err(error) => node::plugin::Answer::broken(&error),
    };
    // A runtime that does not read the answer has given up on the pod.
    let is_heard = answer.output.is_empty() || output::write(&format!("{}\n", answer.output)).is_ok();
    if answer.is_success && is_heard { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
