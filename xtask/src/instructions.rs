//! `cargo xtask instructions`: what hot functions cost in instructions, against stored numbers.
//!
//! Instructions and not seconds: they are the same on a busy machine. valgrind counts them (callgrind), since not every
//! virtual machine lets the processor do so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::peers;

/// How many percent more than the stored number are accepted: allocators and seeds of hash tables differ between machines.
const TOLERATED: u64 = 4;

/// The package, which is also its program and its profile.
const PACKAGE: &str = "instructions";

/// Instructions of one repetition, by the function's name.
type Counts = BTreeMap<String, u64>;

/// Compares; `false` when a function costs more than it did.
///
/// # Errors
/// There is no valgrind, or the package does not build or run.
pub(crate) fn check(root: &Path) -> Result<bool> {
    let stored =
        std::fs::read_to_string(file(root)).with_context(|| format!("cannot read {}", file(root).display()))?;
    let stored = parse(&stored)?;
    let found = count(root)?;
    let mut is_fine = true;
    for line in complaints(&stored, &found, &mut is_fine) {
        println!("{line}");
    }
    if !is_fine {
        println!("If that is meant: cargo xtask instructions --update, and say why in the commit.");
    }
    Ok(is_fine)
}

/// Stores what is found.
///
/// # Errors
/// As those of [`check`], or the file cannot be written.
pub(crate) fn update(root: &Path) -> Result<()> {
    let found = count(root)?;
    let lines: String = found.iter().map(|(name, count)| format!("{name} {count}\n")).collect();
    print!("{lines}");
    let heading = "# Instructions of one repetition, as `cargo xtask instructions --update` writes them.\n";
    std::fs::write(file(root), format!("{heading}{lines}"))
        .with_context(|| format!("cannot write {}", file(root).display()))
}

fn file(root: &Path) -> PathBuf {
    root.join("tests/instructions/counts.txt")
}

fn parse(text: &str) -> Result<Counts> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let pair = |line: &str| -> Result<(String, u64)> {
        let (name, count) = line.split_once(' ').with_context(|| format!("expected NAME COUNT, found {line:?}"))?;
        Ok((name.to_owned(), count.parse().with_context(|| format!("{name}: {count:?} is no number"))?))
    };
    lines.map(pair).collect()
}

/// One line for each function.
fn complaints(stored: &Counts, found: &Counts, is_fine: &mut bool) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, found) in found {
        let Some(stored) = stored.get(name) else {
            *is_fine = false;
            lines.push(format!("{name}: found {found} instructions, and no number is stored"));
            continue;
        };
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let percent = (*found as f64 / *stored as f64 - 1.0) * 100.0;
        let verdict = if found * 100 > stored * (100 + TOLERATED) {
            *is_fine = false;
            format!("  REGRESSION: at most +{TOLERATED} % is accepted")
        } else if found * 100 < stored * (100 - TOLERATED) {
            "  better: store it with --update".to_owned()
        } else {
            String::new()
        };
        lines.push(format!("{name}: found {found} instructions, stored {stored} ({percent:+.1} %){verdict}"));
    }
    for name in stored.keys().filter(|name| !found.contains_key(*name)) {
        *is_fine = false;
        lines.push(format!("{name}: a number is stored, and there is no such function"));
    }
    lines
}

fn count(root: &Path) -> Result<Counts> {
    peers::prepare_one(root, "valgrind")?;
    let build = ["build", "--quiet", "--locked", "--profile", PACKAGE, "--package", PACKAGE];
    let status = Command::new(env!("CARGO")).args(build).current_dir(root).status().context("cannot start cargo")?;
    ensure!(status.success(), "the package {PACKAGE} does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let program = target.join(PACKAGE).join(PACKAGE);
    let listed = Command::new(&program).output().with_context(|| format!("cannot start {}", program.display()))?;
    let listed = parse(&String::from_utf8_lossy(&listed.stdout))?;
    // What comes before the first repetition is in both.
    let each = listed.iter().map(|(name, times)| {
        let (once, twice) = (collected(&program, name, "1")?, collected(&program, name, "2")?);
        Ok((name.clone(), twice.saturating_sub(once) / times))
    });
    each.collect()
}

/// The instructions of one run.
fn collected(program: &Path, name: &str, factor: &str) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(program).args([name, factor]);
    let output = command.stdin(Stdio::null()).output().context("cannot start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // ==4711== Collected : 123456
    let found = said.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    match found {
        Some(count) if output.status.success() => Ok(count),
        _ => bail!("{name} under valgrind ended with {}\n{said}", output.status),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_is_tolerated_is_a_regression_that_names_both_numbers() {
        let stored = parse("# what\na 1000\nb 1000\nc 1000\nd 1\n").unwrap();
        let found = parse("a 1041\nb 1040\nc 900\ne 5\n").unwrap();
        let mut is_fine = true;
        let lines = complaints(&stored, &found, &mut is_fine);
        assert!(!is_fine);
        assert_eq!(lines[0], "a: found 1041 instructions, stored 1000 (+4.1 %)  REGRESSION: at most +4 % is accepted");
        assert_eq!(lines[1], "b: found 1040 instructions, stored 1000 (+4.0 %)");
        assert_eq!(lines[2], "c: found 900 instructions, stored 1000 (-10.0 %)  better: store it with --update");
        assert_eq!(lines[3], "e: found 5 instructions, and no number is stored");
        assert_eq!(lines[4], "d: a number is stored, and there is no such function");
        let mut is_fine = true;
        complaints(&stored, &stored, &mut is_fine);
        assert!(is_fine);
    }

    #[test]
    fn every_stored_number_can_be_read() {
        let text = std::fs::read_to_string(file(&crate::workspace_root())).unwrap();
        assert!(parse(&text).unwrap().len() >= 4);
    }
}
