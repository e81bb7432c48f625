//! How a verb's failure is shown: what happened, why, and what to type next.

use std::process::ExitCode;

use anyhow::Error;
use lab::control::client::ClientError;
use lab::launch::LaunchError;
use lab::state::StateError;

use crate::output;

/// A failure of which the verb itself knows what to type next.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct Advised {
    what: String,
    next: String,
}

impl Advised {
    pub(crate) fn new(what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { what: what.into(), next: next.into() }
    }

    /// What to type next.
    pub(crate) fn next(&self) -> &str {
        &self.next
    }
}

/// Prints the error with its causes, and the next command if there is one. Returns the exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    if is_broken_pipe(error) {
        // Whoever read the output has seen enough.
        return ExitCode::SUCCESS;
    }
    let mut text = format!("{} {}", output::bad("error:"), lines(error).join(": "));
    if let Some(hint) = hint(error) {
        text.push_str(&format!("\n  {hint}"));
    }
    output::complain(&text);
    ExitCode::FAILURE
}

/// The error and its causes, without repeating what an outer one already says.
fn lines(error: &Error) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if !lines.iter().any(|line| line.contains(&text)) {
            lines.push(text);
        }
    }
    lines
}

fn is_broken_pipe(error: &Error) -> bool {
    let kinds = error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
    error.downcast_ref::<output::WriteError>().is_some()
        && kinds.into_iter().any(|kind| kind == std::io::ErrorKind::BrokenPipe)
}

/// What to type next.
fn hint(error: &Error) -> Option<String> {
    for cause in error.chain() {
        if let Some(advised) = cause.downcast_ref::<Advised>() {
            return Some(advised.next().to_owned());
        }
        if let Some(error) = cause.downcast_ref::<StateError>() {
            return state_hint(error);
        }
        match cause.downcast_ref::<ClientError>() {
            Some(ClientError::State(error)) => return state_hint(error),
            Some(ClientError::Refused(why)) if why.contains("no pod") || why.contains("not found") => {
                return Some("see what runs: aquifer status".to_owned());
            }
            _ => {}
        }
        match cause.downcast_ref::<LaunchError>() {
            Some(LaunchError::State(error)) => return state_hint(error),
            Some(LaunchError::Port { .. }) => return Some("let the kernel choose one: leave out --port".to_owned()),
            Some(LaunchError::Namespaces(_)) => return Some("or run it as root: sudo aquifer up".to_owned()),
            Some(LaunchError::Ended { log }) => return Some(format!("see what it said: cat {}", log.display())),
            _ => {}
        }
    }
    None
}

fn state_hint(error: &StateError) -> Option<String> {
    match error {
        StateError::Running { name, .. } => {
            Some(format!("end it: aquifer down --name {name}, or start another: aquifer up --name OTHER"))
        }
        StateError::NotRunning(name) if name == crate::lab_name::DEFAULT => Some("start one: aquifer up".to_owned()),
        StateError::NotRunning(name) => Some(format!("start it: aquifer up --name {name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_names_its_causes_once_and_the_next_command() {
        let error = Err::<(), _>(StateError::NotRunning("default".to_owned())).context("cannot show the status");
        let error = error.unwrap_err();
        assert_eq!(lines(&error), ["cannot show the status", "no lab \"default\" runs"]);
        assert_eq!(hint(&error).as_deref(), Some("start one: aquifer up"));
        let error = Error::from(ClientError::State(StateError::NotRunning("x".to_owned())));
        assert_eq!(lines(&error), ["no lab \"x\" runs"]);
        assert_eq!(hint(&error).as_deref(), Some("start it: aquifer up --name x"));
    }
}
