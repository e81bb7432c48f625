//! TCP: each byte back, with or without a first word of the server.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::Pod;

/// Bytes in flight per connection; an idle one has no buffer.
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
    banner: Option<Vec<u8>>,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<()> {
    if let Some(banner) = banner {
        write(&mut stream, &banner).await?;
    }
    loop {
        // No deadline on the wait: an idle stream is what a test of long connections wants; the client ends it.
        let is_ending = tokio::select! {
            readable = stream.readable() => readable.map(|()| false)?,
            _ = stopped.wait_for(|stop| *stop) => true,
        };
        if is_ending {
            return stream.shutdown().await;
        }
        if send_back(&mut stream).await? == Flow::Ended {
            return stream.shutdown().await;
        }
    }
}

/// Whether more may come.
#[derive(Debug, PartialEq, Eq)]
enum Flow {
    GoesOn,
    Ended,
}

/// Sends back all that is there to be read.
async fn send_back(stream: &mut TcpStream) -> io::Result<Flow> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(Flow::Ended),
            Ok(length) => write(stream, buffer.get(..length).unwrap_or_default()).await?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flow::GoesOn),
            Err(error) => return Err(error),
        }
    }
}

async fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    tokio::time::timeout(WRITE_DEADLINE, stream.write_all(bytes))
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")))
}
