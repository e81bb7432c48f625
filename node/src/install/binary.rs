//! The plugin's binary on the host: a copy of this program under another name.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::whole;

/// Everybody may run it.
const MODE: u32 = 0o755;

/// Where the binary comes from and goes to; a clone shares what is known of it.
#[derive(Debug, Clone)]
pub struct Binary {
    source: PathBuf,
    directory: PathBuf,
    /// The installed file when it was last known to be the same as the source.
    known: Arc<Mutex<Option<Stamp>>>,
}

/// Tells a file from another, and from itself after a change.
type Stamp = (u64, u64, u64, i64, i64);

impl Binary {
    /// Installs `source` into `directory`.
    #[must_use]
    pub fn new(source: PathBuf, directory: PathBuf) -> Self {
        Self { source, directory, known: Arc::default() }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Copies the binary unless the same is there already; tells whether it was not.
    pub(super) fn ensure(&self) -> io::Result<bool> {
        let target = self.target();
        let found = std::fs::metadata(&target).ok();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if found.as_ref().is_some_and(|found| *known == Some(stamp(found))) {
            return Ok(false);
        }
        let is_same = found.as_ref().is_some_and(|found| self.is_same(found).unwrap_or(false));
        if !is_same {
            std::fs::create_dir_all(&self.directory)?;
            whole::copy(&mut File::open(&self.source)?, &target, MODE)?;
        }
        *known = Some(stamp(&std::fs::metadata(&target)?));
        Ok(!is_same)
    }

    pub(super) fn remove(&self) -> io::Result<()> {
        whole::remove(&self.target())
    }

    fn target(&self) -> PathBuf {
        self.directory.join(cni::PLUGIN)
    }

    /// Whether the installed file is the source itself, or has the same content and can be run.
    fn is_same(&self, found: &Metadata) -> io::Result<bool> {
        let source = std::fs::metadata(&self.source)?;
        if (source.dev(), source.ino()) == (found.dev(), found.ino()) {
            return Ok(true);
        }
        if source.len() != found.len() || found.mode() & 0o111 != 0o111 {
            return Ok(false);
        }
        has_same_content(File::open(&self.source)?, File::open(self.target())?)
    }
}

fn stamp(found: &Metadata) -> Stamp {
    (found.dev(), found.ino(), found.len(), found.mtime(), found.mtime_nsec())
}

fn has_same_content(mut one: File, mut other: File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        let length = one.read(&mut left)?;
        let (Some(left), Some(right)) = (left.get(..length), right.get_mut(..length)) else { return Ok(false) };
        if length == 0 {
            return Ok(true);
        }
        other.read_exact(right)?;
        if left != right {
            return Ok(false);
        }
    }
}
