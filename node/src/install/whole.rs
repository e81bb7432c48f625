//! Files that are there whole or not at all.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Ends the name of a file that is being written; no runtime reads such a file.
const UNFINISHED: &str = ".aquifer-new";

/// Puts `text` at `path` unless it is there already; tells whether it was not.
///
/// # Errors
/// The file system's, with the path; what was there stays.
pub(super) fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<bool> {
    if std::fs::read(path).is_ok_and(|found| found == text) && self::mode(path) == Some(mode) {
        return Ok(false);
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).map_err(named(directory))?;
    }
    copy(&mut io::Cursor::new(text), path, mode)?;
    Ok(true)
}

/// Puts what `source` has to the end at `path`.
///
/// # Errors
/// The file system's, with the path; what was there stays.
pub(super) fn copy(source: &mut impl Read, path: &Path, mode: u32) -> io::Result<()> {
    let new = unfinished(path);
    // Left by an agent that was killed while it wrote.
    remove(&new)?;
    let written = fill(source, &new, mode).and_then(|()| std::fs::rename(&new, path));
    if written.is_err() {
        // The error that counts is the first.
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(named(path))?;
    // Without it, a power failure may undo the renaming; file systems that cannot do it lose nothing else.
    let _ = path.parent().map(File::open).map(|opened| opened.and_then(|directory| directory.sync_all()));
    Ok(())
}

/// Removes a file; one that is not there is fine.
///
/// # Errors
/// The file system's, with the path.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(named(path)(error)),
        _ => Ok(()),
    }
}

/// The permissions of a file.
pub(super) fn mode(path: &Path) -> Option<u32> {
    std::fs::metadata(path).ok().map(|found| found.permissions().mode() & 0o7777)
}

fn fill(source: &mut impl Read, path: &Path, mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    io::copy(source, &mut file)?;
    file.flush()?;
    // The process's mask may have taken something away.
    file.set_permissions(Permissions::from_mode(mode))?;
    // A full disk may only say so here.
    file.sync_all()
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(UNFINISHED);
    path.with_file_name(name)
}

fn named(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.display().to_string();
    move |error| io::Error::new(error.kind(), format!("{path}: {error}"))
}
