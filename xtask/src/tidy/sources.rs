//! Sizes of files and functions, module documentation, forbidden attributes.

use std::path::{Path, PathBuf};

use anyhow::Result;

/// A file is one idea.
const LONGEST_FILE: usize = 500;
/// A function fits a screen; past this it is two functions.
const LONGEST_FUNCTION: usize = 100;

/// One line for each source file that breaks a rule.
pub(super) fn check(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    collect(root, &mut files)?;
    files.sort();
    let mut findings = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let name = file.strip_prefix(root).unwrap_or(&file).display().to_string();
        check_file(&name, &text, &mut findings);
    }
    Ok(findings)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if path.is_dir() {
            let is_foreign = matches!(name.as_str(), "target" | "gen" | "fixtures") || name.starts_with('.');
            if !is_foreign {
                collect(&path, files)?;
            }
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, text: &str, findings: &mut Vec<String>) {
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() > LONGEST_FILE {
        findings.push(format!("{name}: {} lines; a file is one idea, at most {LONGEST_FILE}", lines.len()));
    }
    if !lines.iter().find(|line| !line.starts_with("#!")).is_some_and(|line| line.starts_with("//!")) {
        findings.push(format!("{name}: does not start with //! saying what it is"));
    }
    let allows_unsafe = name.starts_with("shared/linux/");
    for (index, line) in lines.iter().enumerate() {
        let place = format!("{name}:{}", index + 1);
        let code = line.trim_start();
        if code.starts_with("#[ignore") {
            findings.push(format!("{place}: #[ignore] hides a test; assert today's behaviour with a FIXME instead"));
        }
        if code.starts_with("#[allow(") || code.starts_with("#![allow(unsafe_code") && !allows_unsafe {
            findings.push(format!("{place}: use #[expect(lint, reason = …)] instead of allow"));
        }
        if let Some(length) = function_length(&lines, index)
            && length > LONGEST_FUNCTION
        {
            findings.push(format!("{place}: a function of {length} lines, at most {LONGEST_FUNCTION}"));
        }
    }
}

/// The length of the function that starts on this line; formatted code closes it at the same indentation.
fn function_length(lines: &[&str], start: usize) -> Option<usize> {
    let line = lines.get(start)?;
    let code = line.trim_start();
    let indentation = line.len() - code.len();
    let is_function = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(crate) fn ", "pub(crate) async fn "]
        .iter()
        .chain(&["pub(super) fn ", "pub(super) async fn ", "const fn ", "pub const fn ", "unsafe fn "])
        .any(|prefix| code.starts_with(prefix));
    if !is_function || code.ends_with(';') || code.ends_with('}') {
        return None;
    }
    let close = format!("{}}}", " ".repeat(indentation));
    let offset = lines.iter().skip(start).position(|line| *line == close)?;
    Some(offset + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check_file("x.rs", text, &mut findings);
        findings
    }

    #[test]
    fn a_module_without_documentation_is_found() {
        assert_eq!(findings("fn main() {}\n").len(), 1);
        assert_eq!(findings("//! Says what it is.\nfn main() {}\n").len(), 0);
    }

    #[test]
    fn an_ignored_test_is_found() {
        assert_eq!(findings("//! X.\n#[ignore]\nfn a() {}\n").len(), 1);
    }

    #[test]
    fn a_long_function_is_found() {
        let text = format!("//! X.\nfn a() {{\n{}}}\n", "    b();\n".repeat(LONGEST_FUNCTION));
        assert_eq!(findings(&text).len(), 1);
    }

    #[test]
    fn a_long_file_is_found() {
        let text = format!("//! X.\n{}", "// line\n".repeat(LONGEST_FILE));
        assert_eq!(findings(&text).len(), 1);
    }
}
