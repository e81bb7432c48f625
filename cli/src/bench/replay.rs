//! What a report was made with, read from the report.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::Value;

use super::arguments::BenchArgs;
use crate::failure::Advised;

/// The verb, as reports have it for their first word.
const VERB: &str = "bench";

/// The field of a report that has the words of the command.
const FIELD: &str = "arguments";

/// What to do about a file that is no report.
const NEXT: &str = "name the .json that a run has written: ls bench-*.json";

/// A whole command line, without the program.
#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: BenchArgs,
}

/// The arguments that a report was made with.
///
/// # Errors
/// It cannot be read, is no report, or asks for what this version does not know.
pub(super) fn read(path: &Path) -> Result<BenchArgs> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    let refused = |why: &str| Advised::new(format!("{shown} is no report of aquifer bench: {why}"), NEXT);
    let report: Value =
        serde_json::from_str(&text).map_err(|error| refused(&format!("it is not JSON, found {error}")))?;
    let Some(found) = report.get(FIELD) else { bail!(refused("it has no field \"arguments\"")) };
    let words: Option<Vec<&str>> = found.as_array().and_then(|words| words.iter().map(Value::as_str).collect());
    let Some([VERB, words @ ..]) = words.as_deref() else {
        bail!(refused(&format!("\"arguments\" is {found}, expected the words of a command that begin with \"bench\"")));
    };
    let version = report.get("version").and_then(Value::as_str).unwrap_or("an unknown version");
    let parsed = Line::try_parse_from([VERB].iter().chain(words));
    parsed.map(|line| line.args).map_err(|error| {
        let what = format!("{shown} was made by aquifer {version} with what this version does not take: {error}");
        Advised::new(what, "see what it takes: aquifer bench --help").into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(text: &str) -> Result<BenchArgs, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().display().to_string();
        read(file.path()).map_err(|error| error.to_string().replace(&path, "FILE"))
    }

    #[test]
    fn what_is_no_report_is_refused_with_what_was_found() {
        for (text, part) in [
            ("<html>", "FILE is no report of aquifer bench: it is not JSON, found expected value at line 1"),
            ("{\"modes\": []}", "FILE is no report of aquifer bench: it has no field \"arguments\""),
            ("{\"arguments\": [\"demo\"]}", "\"arguments\" is [\"demo\"], expected the words of a command that begin"),
            ("{\"arguments\": [\"bench\", 1]}", "\"arguments\" is [\"bench\",1], expected the words"),
            (
                "{\"arguments\": [\"bench\", \"--warp\", \"9\"], \"version\": \"7.0.0\"}",
                "FILE was made by aquifer 7.0.0 with what this version does not take: error: unexpected argument '--warp'",
            ),
        ] {
            let why = reading(text).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        let missing = read(Path::new("/nowhere/bench.json")).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read /nowhere/bench.json");
    }
}
