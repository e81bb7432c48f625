//! Rules of the workspace that no compiler checks.

mod layers;
mod sources;

use std::path::Path;

use anyhow::Result;

/// Checks the whole workspace and prints one line for each thing found.
///
/// # Errors
/// The workspace cannot be read.
pub(crate) fn run(root: &Path) -> Result<bool> {
    let mut findings = layers::check(root)?;
    findings.extend(sources::check(root)?);
    if let Err(error) = crate::codegen::check(root) {
        findings.push(format!("{error:#}"));
    }
    for finding in &findings {
        println!("{finding}");
    }
    println!("tidy: {} findings", findings.len());
    Ok(findings.is_empty())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_workspace_keeps_its_rules() {
        let root = crate::workspace_root();
        let findings = [super::layers::check(&root).unwrap(), super::sources::check(&root).unwrap()].concat();
        assert_eq!(findings, Vec::<String>::new());
    }
}
