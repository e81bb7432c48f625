//! Regenerates the protobuf code in `shared/proto/src/gen` from `proto/`, with no `protoc` and no build script.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use prost::Message;

/// Roots of the definitions; what they import is compiled with them.
const ROOTS: [&str; 6] = ["workload.proto", "security.proto", "ca.proto", "zds.proto", "discovery.proto", "echo.proto"];

/// Definitions that are also kept in encoded form, for servers that tell their callers of them.
const REFLECTED: [(&str, &str); 1] = [("echo.proto", "aquifer.echo.v1.bin")];

/// Writes the generated files into the tree.
///
/// # Errors
/// A definition does not parse, or a file cannot be written.
pub(crate) fn write(root: &Path) -> Result<()> {
    let directory = generated_directory(root);
    std::fs::create_dir_all(&directory)?;
    for (name, content) in generate(root)? {
        std::fs::write(directory.join(name), content)?;
    }
    Ok(())
}

/// Compares what the definitions generate with what is checked in.
///
/// # Errors
/// A file is missing, differs, or is no longer generated; the error names it.
pub(crate) fn check(root: &Path) -> Result<()> {
    let directory = generated_directory(root);
    let generated = generate(root)?;
    for (name, content) in &generated {
        let path = directory.join(name);
        let current = std::fs::read(&path).with_context(|| format!("{} is not checked in", path.display()))?;
        if current != *content {
            bail!("{} is out of date; run `cargo xtask codegen`", path.display());
        }
    }
    for entry in std::fs::read_dir(&directory)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !generated.contains_key(&name) {
            bail!("{} is no longer generated; remove it", directory.join(name).display());
        }
    }
    Ok(())
}

fn generated_directory(root: &Path) -> PathBuf {
    root.join("shared/proto/src/gen")
}

/// File name to formatted source or encoded definition.
fn generate(root: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let descriptors = protox::compile(ROOTS, [root.join("proto")]).context("proto/ does not compile")?;
    let scratch = tempfile::tempdir()?;
    let mut config = prost_build::Config::new();
    config.bytes([".istio.workload", ".istio.security"]);
    // Ordered, so that equal messages have equal bytes: discovery versions are hashes of them.
    config.btree_map([".istio.workload"]);
    tonic_prost_build::configure()
        .out_dir(scratch.path())
        .build_transport(false)
        .compile_fds_with_config(descriptors, config)?;
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(scratch.path())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        files.insert(name, std::fs::read(entry.path())?);
    }
    for (definition, name) in REFLECTED {
        let descriptors = protox::compile([definition], [root.join("proto")])?;
        files.insert(name.to_owned(), descriptors.encode_to_vec());
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_generated_code_is_what_the_definitions_generate() {
        super::check(&crate::workspace_root()).unwrap();
    }
}
