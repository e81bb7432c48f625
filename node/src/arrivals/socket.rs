//! The unix socket of the CNI plugin.

use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use telemetry::http::Accept;
use tokio::net::{UnixListener, UnixStream};

/// A listener that closes connections of everybody but root.
#[derive(Debug)]
pub(crate) struct RootOnly {
    listener: UnixListener,
}

impl RootOnly {
    /// Listens at `path`, in place of a socket that an earlier agent left there.
    ///
    /// # Errors
    /// The directory cannot be made, or something else is at `path`.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener })
    }
}

impl Accept for RootOnly {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _unnamed) = self.listener.accept().await?;
        // Permissions of a socket can be changed; who the peer is cannot.
        match stream.peer_cred()?.uid() {
            0 => Ok(stream),
            uid => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} is not root"))),
        }
    }
}
