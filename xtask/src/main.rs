//! Tasks of the workspace: `cargo xtask <task>`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to its terminal")]

mod codegen;
mod instructions;
#[cfg(test)]
mod mutants;
mod peers;
mod suite;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
usage: cargo xtask <task>

  test [--full] [FILTER]   every test; as root it first installs the peers that the tests talk to
  peers                    install these peers, and say where they are
  instructions [--update]  what hot functions cost, against the stored numbers
  tidy                     the rules that no compiler checks: layers, dependency owners, sizes, module docs
  codegen [--check]        write (or compare) the protobuf code below shared/proto/src/gen

examples:
  cargo xtask test
  cargo xtask test hbone
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one task; `false` means that it ran and found something wrong.
fn run() -> Result<bool> {
    let root = workspace_root();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["codegen"] => codegen::write(&root).map(|()| true),
        ["codegen", "--check"] => codegen::check(&root).map(|()| true),
        ["tidy"] => tidy::run(&root),
        ["instructions"] => instructions::check(&root),
        ["instructions", "--update"] => instructions::update(&root).map(|()| true),
        ["peers"] => Ok(peers::report(&root)),
        ["test", rest @ ..] => suite::run(&root, rest),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(true)
        }
        other => bail!("unknown task {:?}\n\n{USAGE}", other.join(" ")),
    }
}

fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}
