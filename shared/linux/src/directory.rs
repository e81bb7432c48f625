//! Being told when the files of a directory change.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::error::Named;

/// Watches directories; becomes readable, and stays so, when one of their files was written, moved or deleted.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Watches these directories from now on, without blocking.
    ///
    /// # Errors
    /// A directory is absent, or the limit of `fs.inotify` is reached.
    pub fn open(directories: &[&Path]) -> io::Result<Self> {
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).named(|| "watching directories".to_owned())?;
        let events = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        for directory in directories {
            inotify.add_watch(*directory, events).named(|| format!("watching directory {}", directory.display()))?;
        }
        Ok(Self { inotify })
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn is_readable(watch: &Watch) -> bool {
        poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn changed_files_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a");
        let changes: [&dyn Fn(); 3] = [
            &|| std::fs::write(&file, "x").unwrap(),
            &|| std::fs::rename(&file, file.with_extension("b")).unwrap(),
            &|| std::fs::remove_file(file.with_extension("b")).unwrap(),
        ];
        for change in changes {
            let watch = Watch::open(&[directory.path()]).unwrap();
            assert!(!is_readable(&watch));
            change();
            assert!(is_readable(&watch));
        }
    }

    #[test]
    fn what_is_no_directory_cannot_be_watched() {
        assert!(Watch::open(&[Path::new("/nonexistent")]).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Watch::open(&[file.path()]).is_err());
    }
}
