//! Faults put into the policy evaluator on purpose: the oracle must notice each of them.
//!
//! A test that nobody has seen fail proves little.
//! Each mutant is a copy of the two crates with one line changed, in which the oracle's test must fail on a comparison.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

/// A fault: what it means, and the text to replace, which must be there exactly once.
struct Mutant {
    fault: &'static str,
    file: &'static str,
    from: &'static str,
    to: &'static str,
}

const MATCHING: &str = "shared/policy/src/matching.rs";
const SET: &str = "shared/policy/src/set.rs";

const MUTANTS: [Mutant; 14] = [
    Mutant {
        fault: "all rules must match",
        file: MATCHING,
        from: "self.rules.iter().any(",
        to: "!self.rules.is_empty() && self.rules.iter().all(",
    },
    Mutant {
        fault: "any clause is enough",
        file: MATCHING,
        from: "self.clauses.iter().all(",
        to: "self.clauses.iter().any(",
    },
    Mutant { fault: "a clause without matches is false", file: MATCHING, from: "self.matches.is_empty() || ", to: "" },
    Mutant { fault: "an empty match is true", file: MATCHING, from: "!self.is_empty()", to: "true" },
    Mutant {
        fault: "a prefix may be anywhere",
        file: MATCHING,
        from: "text.starts_with(&**prefix)",
        to: "text.contains(&**prefix)",
    },
    Mutant {
        fault: "nothing is present",
        file: MATCHING,
        from: "Self::Presence => !text.is_empty()",
        to: "Self::Presence => true",
    },
    Mutant { fault: "exclusions are ignored", file: MATCHING, from: " && !unwanted.iter().any(&hit)", to: "" },
    Mutant {
        fault: "any account of the namespace",
        file: MATCHING,
        from: " && identity.service_account == self.service_account",
        to: "",
    },
    Mutant {
        fault: "source and destination are confused",
        file: MATCHING,
        from: "range.contains(connection.destination.ip())",
        to: "range.contains(connection.source_ip)",
    },
    Mutant {
        fault: "a dry run is enforced",
        file: SET,
        from: "if policy.dry_run {",
        to: "if policy.dry_run && policy.rules.is_empty() {",
    },
    Mutant {
        fault: "a policy that has not arrived leaves open",
        file: SET,
        from: "None => tally.missing = tally.missing.or(Some(key)),",
        to: "None => {}",
    },
    Mutant {
        fault: "mesh-wide policies are forgotten",
        file: SET,
        from: "[Some(&self.global), self.scoped(namespace)]",
        to: "[None, self.scoped(namespace)]",
    },
    Mutant {
        fault: "an ALLOW that matches beats a DENY",
        file: SET,
        from: "if let Some(key) = self.denied_by {",
        to: "if let (Some(key), None) = (self.denied_by, self.allowed_by) {",
    },
    Mutant {
        fault: "a policy that cannot be read leaves open",
        file: SET,
        from: "Action::Deny => self.unreadable = self.unreadable.or(Some(key)),",
        to: "Action::Deny => {}",
    },
];

#[test]
fn the_oracle_notices_every_fault() {
    let root = crate::workspace_root();
    // The same place each time, so that cargo finds what it built before.
    let (copy, target) = (root.join("target/mutants/workspace"), root.join("target/mutants"));
    let _ = fs::remove_dir_all(&copy);
    copy_crates(&root, &copy).unwrap();
    let run = || oracle(&copy, &target);
    let (passes, output) = run();
    assert!(passes, "the oracle fails without any fault:\n{output}");
    for mutant in MUTANTS {
        let file = copy.join(mutant.file);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches(mutant.from).count(), 1, "{}: {:?} is not there once", mutant.file, mutant.from);
        fs::write(&file, text.replace(mutant.from, mutant.to)).unwrap();
        let (passes, output) = run();
        assert!(!passes, "not noticed: {}", mutant.fault);
        assert!(output.contains("every_decision_is_that_of_the_oracle ... FAILED"), "{}: {output}", mutant.fault);
        fs::write(&file, text).unwrap();
    }
}

/// The evaluator and what it needs, as a workspace of their own.
fn copy_crates(root: &Path, to: &Path) -> io::Result<()> {
    for folder in ["shared/policy", "shared/types"] {
        copy_folder(&root.join(folder), &to.join(folder))?;
    }
    for file in ["Cargo.lock", "clippy.toml", "rust-toolchain.toml"] {
        fs::copy(root.join(file), to.join(file))?;
    }
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let (before, members) = manifest.split_once("members = [").unwrap();
    let (_, after) = members.split_once(']').unwrap();
    let manifest = format!("{before}members = [\"shared/policy\", \"shared/types\"]{after}");
    fs::write(to.join("Cargo.toml"), manifest.replace("default-members = [\"cli\"]\n", ""))
}

fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Runs the oracle's test; says whether it passes, and what it printed.
fn oracle(workspace: &Path, target: &Path) -> (bool, String) {
    let output = Command::new(env!("CARGO"))
        .args(["test", "--quiet", "--offline", "--package", "policy", "--lib", "--", "--format", "pretty", "oracle::"])
        .current_dir(workspace)
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.success(), text)
}
