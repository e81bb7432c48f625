//! Bulk connections, on a thread of their own.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::preamble::{CHUNK, Purpose, REPORT_EVERY, encode_report};

/// A connection on its way to this thread. Its place among all connections is given back: streams are few.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) stream: std::net::TcpStream,
    pub(super) purpose: Purpose,
    /// Bytes behind the preamble that were read with it.
    pub(super) surplus: u64,
}

/// Serves what comes until nothing can come any more.
pub(super) async fn serve(mut streams: mpsc::Receiver<Handed>) -> io::Result<()> {
    while let Some(Handed { stream, purpose, surplus }) = streams.recv().await {
        let stream = TcpStream::from_std(stream)?;
        tokio::spawn(async move {
            // The peer ends it.
            let _ = match purpose {
                Purpose::Upload => receive(stream, surplus).await,
                _ => send(stream).await,
            };
        });
    }
    Ok(())
}

async fn send(mut stream: TcpStream) -> io::Result<()> {
    let chunk = vec![b'.'; CHUNK];
    loop {
        stream.write_all(&chunk).await?;
    }
}

/// Counts what comes, and reports it.
async fn receive(mut stream: TcpStream, surplus: u64) -> io::Result<()> {
    let began = Instant::now();
    let (mut received, mut reported) = (surplus, Duration::ZERO);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        received += count as u64;
        let age = began.elapsed();
        if age - reported >= REPORT_EVERY {
            reported = age;
            let nanos = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            stream.write_all(&encode_report(nanos, received)).await?;
        }
    }
}
