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

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use telemetry::http::{Router, serve, text};
    use tokio::task::spawn_blocking;
    use tokio::time::timeout;

    use super::*;

    const NOBODY: u32 = 65534;

    /// Asks as this user; tells what the answer is, if there is one.
    fn asked(path: &Path, user: u32) -> io::Result<Option<String>> {
        let mut command = Command::new("curl");
        command.args(["--silent", "--max-time", "20", "--unix-socket"]).arg(path).arg("http://node/");
        let output = std::os::unix::process::CommandExt::uid(&mut command, user).stdin(Stdio::null()).output()?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    #[tokio::test]
    async fn only_root_is_heard_whatever_the_permissions_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let socket = RootOnly::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for opened in [directory.path(), &path] {
            std::fs::set_permissions(opened, std::fs::Permissions::from_mode(0o777)).unwrap();
        }
        let router = Router::new().get("/", |_| std::future::ready(text(http::StatusCode::OK, "heard")));
        let server = tokio::spawn(serve(socket, router, std::future::pending()));
        for (user, expected) in [(NOBODY, None), (0, Some("heard")), (NOBODY, None)] {
            let path = path.clone();
            let answer = timeout(Duration::from_secs(30), spawn_blocking(move || asked(&path, user))).await;
            match answer.unwrap().unwrap() {
                Ok(answer) => assert_eq!(answer.as_deref(), expected, "user {user}"),
                Err(error) => return println!("SKIPPED: curl as user {user}: {error}"),
            }
        }
        server.abort();
    }

    #[tokio::test]
    async fn a_socket_that_was_left_behind_is_replaced_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/s");
        drop(RootOnly::bind(&path).unwrap());
        assert!(path.exists());
        RootOnly::bind(&path).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "mine").unwrap();
        assert!(RootOnly::bind(&file).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    }
}
