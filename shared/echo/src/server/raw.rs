//! TCP: each byte back, with or without a first word of the server.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Pod;

/// Bytes in flight per connection.
const CHUNK: usize = 16 * 1024;

/// A client that does not read its answer for this long is cut.
const WRITE_DEADLINE: Duration = Duration::from_secs(60);

/// What a server-first connection begins with; one line, as mail and database servers do.
pub(super) fn banner(pod: &Pod) -> Vec<u8> {
    let name = if pod.name.is_empty() { "unknown" } else { &pod.name };
    format!("220 {name} aquifer-echo ready\r\n").into_bytes()
}

/// Sends `banner`, then back what comes in until the client closes its half.
///
/// After the shutdown the client sees a half-close, so that it can tell an orderly end from a broken one.
pub(super) async fn serve(
    mut stream: TcpStream,
    banner: Option<&[u8]>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    if let Some(banner) = banner {
        write(&mut stream, banner).await?;
    }
    let mut buffer = vec![0; CHUNK];
    loop {
        // No deadline on the read: an idle stream is what a test of long connections wants; the client ends it.
        let length = tokio::select! {
            read = stream.read(&mut buffer) => read?,
            _ = stopped.wait_for(|stop| *stop) => 0,
        };
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            return stream.shutdown().await;
        };
        write(&mut stream, bytes).await?;
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITE_DEADLINE, stream.write_all(bytes))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
}
