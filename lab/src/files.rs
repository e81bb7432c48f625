//! Files that change in one step: a reader sees what was there before or what is there now, never a mixture.

use std::ffi::OsString;
use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// Puts what `make` makes in the place of `path`: `make` gets a path beside it that is free, which then takes the name.
/// `path` itself may be absent.
///
/// # Errors
/// The file system's; what was at `path` stays.
pub(crate) fn replace(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let mut name = path.file_name().map(OsString::from).unwrap_or_default();
    name.push("_new");
    let new = path.with_file_name(name);
    // A process that was killed meanwhile may have left it.
    remove(&new)?;
    make(&new)?;
    std::fs::rename(new, path)
}

/// Writes a new file with exactly these permissions.
///
/// # Errors
/// The file system's; also when `path` exists.
pub(crate) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(path)?;
    file.write_all(content)?;
    // The mode given to open is reduced by the process's mask.
    file.set_permissions(Permissions::from_mode(mode))
}

/// Removes a file or link; an absent one is fine.
///
/// # Errors
/// The file system's.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_the_new_is_whole() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("kubeconfig");
        replace(&path, |new| write(new, b"1", 0o600)).unwrap();
        let broken = replace(&path, |new| {
            write(new, b"half", 0o600)?;
            Err(io::ErrorKind::StorageFull.into())
        });
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), b"1");
        // What the failed attempt left behind is in nobody's way.
        replace(&path, |new| write(new, b"2", 0o644)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"2");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    }
}
