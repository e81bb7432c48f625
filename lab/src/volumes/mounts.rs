//! Where a container's files are: steps that build a root directory of its own out of the host's.
//!
//! The root is a small file system in memory whose top-level entries show the host's, except `/run`, which is empty.
//! They cannot be written to, except for a few, so that what runs in a lab leaves nothing behind on the host.
//! A directory that the host does not have becomes possible by an overlay on its nearest existing ancestor; only the
//! container sees it. Planning looks at the host's directories but changes nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use linux::mount::Mount;

/// Links followed in one path before it is taken for a loop, as the kernel does it.
const MAX_LINKS: usize = 40;

/// Most memory that a container's root directory and its `/run` may hold, in bytes.
const ROOT_SIZE: u64 = 64 << 20;

/// The host's top-level directories that a container may write to.
const WRITABLE: [&str; 4] = ["dev", "proc", "sys", "tmp"];

/// The host's top-level directory that a container has for itself.
const PRIVATE: &str = "run";

/// Something to be shown in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    /// A file or directory of ours.
    pub(crate) source: PathBuf,
    /// An absolute path in the container.
    pub(crate) target: PathBuf,
    pub(crate) read_only: bool,
    pub(crate) is_directory: bool,
}

/// Plans the root of one container.
#[derive(Debug)]
pub(crate) struct Planner<'a> {
    host: &'a Path,
    root: PathBuf,
    scratch: PathBuf,
    steps: Vec<Mount>,
    /// Directories of the container, without `root`, in which new entries can be made.
    writable: BTreeSet<PathBuf>,
    overlays: usize,
}

/// Where a path of the container ends up when its links are followed.
#[derive(Debug, PartialEq, Eq)]
struct Resolved {
    /// The longest part that is there, without links.
    existing: PathBuf,
    /// The rest; empty if all is there.
    missing: PathBuf,
}

impl<'a> Planner<'a> {
    /// Starts a plan whose root is built at `root`; `scratch` is a directory for overlays, on a file system in memory.
    /// `host` is the host's root directory.
    ///
    /// # Errors
    /// When the host's root directory cannot be read.
    pub(crate) fn new(host: &'a Path, root: PathBuf, scratch: PathBuf) -> io::Result<Self> {
        let mut steps = vec![
            Mount::Directory { path: root.clone(), mode: 0o755 },
            Mount::Tmpfs { target: root.clone(), size: Some(ROOT_SIZE), mode: 0o755 },
        ];
        let mut entries: Vec<_> = std::fs::read_dir(host)?.collect::<io::Result<_>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries.iter().filter(|entry| entry.file_name() != OsStr::new(PRIVATE)) {
            let (source, target) = (entry.path(), root.join(entry.file_name()));
            let kind = entry.file_type()?;
            let read_only = !WRITABLE.iter().any(|name| entry.file_name() == OsStr::new(name));
            if kind.is_symlink() {
                steps.push(Mount::Symlink { path: target, to: std::fs::read_link(&source)? });
            } else {
                steps.push(if kind.is_dir() {
                    Mount::Directory { path: target.clone(), mode: 0o755 }
                } else {
                    Mount::File { path: target.clone() }
                });
                steps.push(Mount::Bind { source, target, read_only });
            }
        }
        steps.push(Mount::Directory { path: root.join(PRIVATE), mode: 0o755 });
        let writable = BTreeSet::from([PathBuf::from("/"), Path::new("/").join(PRIVATE)]);
        Ok(Self { host, root, scratch, steps, writable, overlays: 0 })
    }

    /// Adds what is to be shown. Outer directories must come before inner ones.
    ///
    /// # Errors
    /// A target that is not absolute, or whose links form a loop.
    pub(crate) fn show(&mut self, shown: &Shown) -> io::Result<()> {
        let resolved = self.resolve(&shown.target)?;
        let target = self.inside(&resolved.whole());
        if !resolved.missing.as_os_str().is_empty() {
            self.make_room(&resolved);
            let directory = if shown.is_directory { Some(target.as_path()) } else { target.parent() };
            if let Some(directory) = directory {
                self.steps.push(Mount::Directory { path: directory.to_owned(), mode: 0o755 });
            }
            if !shown.is_directory {
                self.steps.push(Mount::File { path: target.clone() });
            }
        }
        let source = shown.source.clone();
        self.steps.push(Mount::Bind { source, target, read_only: shown.read_only });
        if shown.is_directory {
            self.writable.insert(resolved.whole());
        }
        Ok(())
    }

    /// The steps, the last of which makes the new root the root.
    pub(crate) fn finish(mut self) -> Vec<Mount> {
        self.steps.push(Mount::Root { directory: self.root });
        self.steps
    }

    /// Puts an overlay on the nearest existing ancestor unless new entries can be made there already.
    fn make_room(&mut self, resolved: &Resolved) {
        let is_writable = match resolved.existing.as_path() {
            path if path == Path::new("/") => true,
            path => path.ancestors().any(|outer| outer != Path::new("/") && self.writable.contains(outer)),
        };
        if is_writable {
            return;
        }
        let scratch = self.scratch.join(format!("overlay-{}", self.overlays));
        self.overlays += 1;
        self.steps.push(Mount::Overlay { directory: self.inside(&resolved.existing), scratch });
        self.writable.insert(resolved.existing.clone());
    }

    /// The container's absolute path as seen while its root is being built.
    fn inside(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Follows links as the container will, without ever leaving its root.
    fn resolve(&self, path: &Path) -> io::Result<Resolved> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {why}", path.display()));
        if !path.is_absolute() {
            return Err(invalid("a mount path must be absolute"));
        }
        let mut left: Vec<PathBuf> = components(path);
        let mut existing = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part.as_os_str() == ".." {
                existing.pop();
                continue;
            }
            let next = existing.join(&part);
            if next == Path::new("/").join(PRIVATE) {
                existing = next;
                continue;
            }
            let is_private = existing.starts_with(Path::new("/").join(PRIVATE));
            let on_host = self.host.join(next.strip_prefix("/").unwrap_or(&next));
            match std::fs::symlink_metadata(&on_host) {
                Ok(found) if !is_private && found.is_symlink() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(invalid("too many links"));
                    }
                    let to = std::fs::read_link(&on_host)?;
                    if to.is_absolute() {
                        existing = PathBuf::from("/");
                    }
                    left.extend(components(&to));
                }
                Ok(_) if !is_private => existing = next,
                _ => {
                    left.push(part);
                    let missing = left.iter().rev().collect();
                    return Ok(Resolved { existing, missing });
                }
            }
        }
        Ok(Resolved { existing, missing: PathBuf::new() })
    }
}

impl Resolved {
    fn whole(&self) -> PathBuf {
        if self.missing.as_os_str().is_empty() { self.existing.clone() } else { self.existing.join(&self.missing) }
    }
}

/// The parts of a path, the last first.
fn components(path: &Path) -> Vec<PathBuf> {
    let is_part = |component: &Component<'_>| matches!(component, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_part).map(|component| PathBuf::from(component.as_os_str())).rev().collect()
}

#[cfg(test)]
mod tests;
