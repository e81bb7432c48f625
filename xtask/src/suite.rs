//! `cargo xtask test`: builds once, runs every test, and counts what passed, failed and was skipped.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::peers;

/// Tests print this at the start of a line, with the reason, when they cannot run here.
const SKIPPED: &str = "SKIPPED:";

/// More failures than this are no accident of timing.
const MOST_REPEATED: usize = 3;

#[derive(Default)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: Vec<String>,
    failures: Vec<String>,
    /// Failed once and passed when run again alone.
    unsteady: Vec<String>,
    /// Inside the output of tests that passed, which is read for skips but not shown.
    in_successes: bool,
}

/// Runs the suite; `false` when a test failed.
///
/// # Errors
/// The workspace does not build, or a process cannot be started.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Result<bool> {
    let mut full = false;
    let mut filter = Vec::new();
    for argument in arguments {
        match *argument {
            "--full" => full = true,
            flag if flag.starts_with('-') => bail!("unknown flag {flag}; known: --full"),
            text => filter.push(text),
        }
    }
    let missing = peers::prepare(root);
    for peer in &missing {
        println!("missing peer: {peer}");
    }
    // The end-to-end tests run the binary, which `cargo test` builds only for its own package.
    build(root)?;
    let mut counts = Counts::default();
    test(root, &filter, full, &mut counts)?;
    if (1..=MOST_REPEATED).contains(&counts.failures.len()) {
        repeat(root, full, &mut counts)?;
    }
    Ok(report(&counts))
}

/// Runs what failed once more, one test at a time: what passes alone is told as unsteady, not hidden and not fatal.
fn repeat(root: &Path, full: bool, counts: &mut Counts) -> Result<()> {
    for name in std::mem::take(&mut counts.failures) {
        println!("\nonce more, alone: {name}");
        let mut again = Counts::default();
        test(root, &["--exact", &name], full, &mut again)?;
        if again.failed == 0 && again.passed > 0 {
            counts.failed = counts.failed.saturating_sub(1);
            counts.passed += 1;
            counts.unsteady.push(name);
        } else {
            counts.failures.push(name);
        }
    }
    Ok(())
}

fn build(root: &Path) -> Result<()> {
    let status = Command::new(cargo()).args(["build", "--package", "aquifer"]).current_dir(root).status()?;
    if !status.success() {
        bail!("the workspace does not build");
    }
    Ok(())
}

fn test(root: &Path, filter: &[&str], full: bool, counts: &mut Counts) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The versions that were asked for go before whatever else the machine has.
    let searched = std::iter::once(peers::directory(root).join("bin"))
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect::<Vec<_>>();
    let mut command = Command::new(cargo());
    command
        .args(["test", "--workspace", "--no-fail-fast", "--"])
        .args(filter)
        .arg("--show-output")
        .current_dir(root)
        .env("PATH", std::env::join_paths(searched)?)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    if full {
        command.env("AQUIFER_TEST_FULL", "1");
    }
    let mut child = command.spawn().context("cargo did not start")?;
    let output = child.stdout.take().context("cargo has no standard output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        if counts.take(&line) {
            println!("{line}");
        }
    }
    let status = child.wait()?;
    if !status.success() && counts.failed == 0 {
        bail!("cargo test ended with {status} before every test ran");
    }
    Ok(())
}

impl Counts {
    /// Counts one line of libtest's output; says whether a reader wants to see it.
    fn take(&mut self, line: &str) -> bool {
        if let Some(reason) = line.strip_prefix(SKIPPED) {
            self.skipped.push(reason.trim().to_owned());
            return false;
        }
        match line {
            "successes:" => self.in_successes = true,
            "failures:" => self.in_successes = false,
            _ => {}
        }
        if let Some(numbers) = line.strip_prefix("test result: ") {
            self.in_successes = false;
            self.passed += number_before(numbers, " passed");
            self.failed += number_before(numbers, " failed");
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        !self.in_successes && !line.is_empty()
    }
}

fn number_before(text: &str, word: &str) -> usize {
    text.split(';')
        .find_map(|part| part.trim_end().strip_suffix(word))
        .and_then(|head| head.split_whitespace().last())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

/// Prints the closing lines.
fn report(counts: &Counts) -> bool {
    println!();
    for name in &counts.failures {
        println!("failed: {name}");
    }
    for name in &counts.unsteady {
        println!("unsteady: {name} failed once and passed when run again alone");
    }
    for reason in &counts.skipped {
        println!("skipped: {reason}");
    }
    let skipped = counts.skipped.len();
    // As root on a build machine every peer can be had: a skipped test there hides a broken installation.
    let must_run_all = std::env::var_os("CI").is_some() && peers::is_root();
    if skipped > 0 {
        println!("{skipped} skipped");
    }
    println!("{} passed, {} failed", counts.passed.saturating_sub(skipped), counts.failed);
    counts.failed == 0 && !(must_run_all && skipped > 0)
}

fn cargo() -> String {
    // The cargo that runs this task, so that both use one toolchain.
    option_env!("CARGO").unwrap_or("cargo").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_counted() {
        let mut counts = Counts::default();
        counts.take("test result: ok. 8 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.take("SKIPPED: nft is not installed");
        assert_eq!((counts.passed, counts.failed, counts.skipped.len()), (8, 1, 1));
    }
}
