//! `aquifer log`: what the node proxies log, shown and changed while they run.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::admin::Proxies;
use crate::admin::http::{Method, escaped};
use crate::output;
use crate::program::command_runtime;

/// Show or change the log levels of ztunnel.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  aquifer log                                   the levels of every ztunnel
  aquifer log --level debug                     everything, everywhere
  aquifer log --node node-1 --level xds=trace   one part of one ztunnel
  aquifer log --reset                           as at the start

For what was logged, see: aquifer logs ztunnel-node-1 -n aquifer-system")]
pub(crate) struct LogArgs {
    #[command(flatten)]
    proxies: Proxies,
    /// off, error, warn, info, debug or trace, or target=level clauses, separated by commas.
    #[arg(long, value_name = "LEVEL")]
    level: Option<String>,
    /// Go back to the levels of the start first.
    #[arg(long)]
    reset: bool,
}

/// Runs the verb; fails when a proxy does not answer or refuses the level.
pub(crate) fn run(args: &LogArgs) -> Result<ExitCode> {
    let answers =
        command_runtime()?.block_on(args.proxies.ask(Method::Post, &path(args.level.as_deref(), args.reset)))?;
    let mut code = ExitCode::SUCCESS;
    for answer in answers {
        match answer.text {
            Ok(text) => output::write(&format!("{}: {}\n", answer.from, text.trim_end()))?,
            Err(error) => {
                code = ExitCode::FAILURE;
                output::complain(&format!("{} {}: {error:#}", output::bad("error:"), answer.from));
            }
        }
    }
    Ok(code)
}

fn path(level: Option<&str>, reset: bool) -> String {
    let level = level.map(|level| format!("level={}", escaped(level)));
    let query: Vec<String> = level.into_iter().chain(reset.then(|| "reset".to_owned())).collect();
    if query.is_empty() { "/logging".to_owned() } else { format!("/logging?{}", query.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_reset_become_the_query() {
        assert_eq!(path(None, false), "/logging");
        assert_eq!(path(None, true), "/logging?reset");
        assert_eq!(path(Some("info,xds=debug"), true), "/logging?level=info,xds=debug&reset");
    }
}
