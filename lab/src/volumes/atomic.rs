//! Writes the files of a volume so that a reader sees the old ones or the new ones, never a mixture.
//!
//! As Kubernetes does it: the files live in a directory of their own, `..data` is a link to it that is replaced in one
//! step, and the volume's visible names are links through `..data`.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::projection::Payload;
use crate::files;

const DATA: &str = "..data";

/// Makes `volume` hold exactly `payload`. `version` must differ from the one before.
///
/// # Errors
/// The file system's. What was visible before stays so.
pub(crate) fn write(volume: &Path, payload: &Payload, version: u64) -> io::Result<()> {
    std::fs::create_dir_all(volume)?;
    let old = std::fs::read_link(volume.join(DATA)).ok();
    let name = format!("..{version}");
    let directory = volume.join(&name);
    for (path, file) in payload {
        let path = directory.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        files::write(&path, &file.content, file.mode)?;
    }
    std::fs::create_dir_all(&directory)?;
    files::replace(&volume.join(DATA), |new| symlink(&name, new))?;
    show(volume, payload)?;
    if let Some(old) = old.filter(|old| old.as_os_str() != name.as_str()) {
        std::fs::remove_dir_all(volume.join(old))?;
    }
    Ok(())
}

/// Makes the visible names those of the payload.
fn show(volume: &Path, payload: &Payload) -> io::Result<()> {
    let wanted: BTreeSet<&str> = payload.keys().filter_map(|path| path.split('/').next()).collect();
    for entry in std::fs::read_dir(volume)? {
        let name = entry?.file_name();
        let is_stale = name.to_str().is_some_and(|name| !name.starts_with("..") && !wanted.contains(name));
        if is_stale {
            files::remove(&volume.join(name))?;
        }
    }
    for name in wanted {
        match symlink(Path::new(DATA).join(name), volume.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::volumes::projection::File;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| File { content: content.as_bytes().to_vec(), mode: 0o640 };
        files.iter().map(|(path, content)| ((*path).to_owned(), file(content))).collect()
    }

    fn visible(volume: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(volume)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.starts_with(".."))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_new_version_replaces_adds_and_removes() {
        let temporary = tempfile::tempdir().unwrap();
        let volume = temporary.path().join("v");
        write(&volume, &payload(&[("a", "1"), ("d/e", "2")]), 1).unwrap();
        assert_eq!(visible(&volume), ["a", "d"]);
        assert_eq!(std::fs::read_to_string(volume.join("d/e")).unwrap(), "2");
        write(&volume, &payload(&[("a", "3"), ("f", "4")]), 2).unwrap();
        assert_eq!(visible(&volume), ["a", "f"]);
        assert_eq!(std::fs::read_to_string(volume.join("a")).unwrap(), "3");
        assert_eq!(std::fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(!volume.join("..1").exists(), "the old version is removed");
    }

    #[test]
    fn nothing_is_a_payload_too() {
        let temporary = tempfile::tempdir().unwrap();
        write(temporary.path(), &payload(&[("a", "1")]), 1).unwrap();
        write(temporary.path(), &Payload::new(), 2).unwrap();
        assert!(visible(temporary.path()).is_empty());
    }
}
