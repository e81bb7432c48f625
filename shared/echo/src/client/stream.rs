//! One long stream to a TCP echo: every byte that comes back is compared with the one that was sent.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::EchoError;

/// A connection must be made within this time.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The rest of the stream must come back within this time after the last byte was sent.
const REST_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes written at a time.
const CHUNK: usize = 512;

/// How to stream.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of a TCP echo.
    pub to: String,
    /// Chunks of 512 bytes per second, 1 to 10,000.
    pub rate: u32,
    /// End after this time; `None` streams until the caller's `stop` resolves.
    pub duration: Option<Duration>,
    /// The peer speaks first: a line of it is read before anything is sent.
    pub banner: bool,
}

/// Whether the stream came back whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The peer's address.
    pub target: String,
    /// Our address.
    pub local: String,
    /// Bytes sent.
    pub sent: u64,
    /// Bytes that came back right, counted up to the first difference.
    pub received: u64,
    /// Each byte sent came back, in order, and the peer closed after our close, not before.
    pub whole: bool,
    /// Why it is not whole.
    pub error: Option<String>,
    /// Longest time without a byte coming back while bytes were outstanding, in milliseconds.
    pub longest_gap_ms: u64,
    /// Time from connected to closed.
    pub seconds: f64,
}

/// Streams until the duration is over or `stop` resolves; `started` is called once the connection is made.
///
/// # Errors
/// Options that make no sense, a name without address, a connection that cannot be made.
/// What happens to the stream afterwards is part of the report.
pub async fn run(
    options: &Options,
    started: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<Report, EchoError> {
    if !(1..=10_000).contains(&options.rate) {
        return Err(EchoError::Invalid(format!("rate {} is not between 1 and 10000 per second", options.rate)));
    }
    let address = super::resolve(&options.to).await?;
    let failed = |source| EchoError::Connect { target: options.to.clone(), source };
    let mut stream = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(address))
        .await
        .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
        .map_err(failed)?;
    let local = stream.local_addr().map(|local| local.to_string()).unwrap_or_default();
    // Failure only costs latency.
    let _ = stream.set_nodelay(true);
    if options.banner {
        tokio::time::timeout(CONNECT_DEADLINE, read_line(&mut stream))
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
            .map_err(failed)?;
    }
    started(address);
    let begun = Instant::now();
    let mut report = exchange(stream, options.rate, super::ended(options.duration, stop)).await;
    report.target = address.to_string();
    report.local = local;
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

async fn read_line(stream: &mut TcpStream) -> std::io::Result<()> {
    while stream.read_u8().await? != b'\n' {}
    Ok(())
}

/// Sends and compares at once, over any stream, so that tests can pass one that breaks.
async fn exchange<S: AsyncRead + AsyncWrite>(stream: S, rate: u32, end: impl Future<Output = ()>) -> Report {
    let (reader, writer) = tokio::io::split(stream);
    let (closing, closed) = watch::channel(false);
    let (finishing, mut finished) = watch::channel(false);
    let end = async {
        tokio::select! {
            () = end => {}
            // Nothing more can come back whole: sending on would only hide it.
            _ = finished.wait_for(|finished| *finished) => {}
        }
    };
    let write = async {
        let sent = send(writer, rate, end).await;
        // The receiver lives as long as this future.
        let _ = closing.send(true);
        sent
    };
    let read = async {
        let back = compare(reader, closed).await;
        let _ = finishing.send(true);
        back
    };
    let ((sent, write_error), back) = tokio::join!(write, read);
    let missing = || (back.received < sent).then(|| format!("{} bytes did not come back", sent - back.received));
    let error = back.error.or_else(|| write_error.map(|error| format!("write: {error}"))).or_else(missing);
    Report {
        sent,
        received: back.received,
        whole: error.is_none(),
        error,
        longest_gap_ms: u64::try_from(back.longest_gap.as_millis()).unwrap_or(u64::MAX),
        ..Report::default()
    }
}

/// Writes chunks at the rate until `end`, then closes its half. Returns the bytes written.
async fn send<W: AsyncWrite>(writer: W, rate: u32, end: impl Future<Output = ()>) -> (u64, Option<std::io::Error>) {
    let mut writer = std::pin::pin!(writer);
    let mut end = std::pin::pin!(end);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let mut pattern = Pattern::new();
    let mut chunk = [0; CHUNK];
    let mut sent = 0;
    loop {
        tokio::select! {
            biased;
            () = &mut end => break,
            _ = ticks.tick() => {}
        }
        pattern.fill(&mut chunk);
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let written = tokio::select! {
                written = writer.write(rest) => written,
                // A peer that stopped reading must not keep the client from ending.
                () = &mut end => return (sent, writer.shutdown().await.err()),
            };
            match written {
                Ok(0) => return (sent, Some(std::io::ErrorKind::WriteZero.into())),
                Ok(length) => {
                    sent += length as u64;
                    rest = rest.get(length..).unwrap_or_default();
                }
                Err(error) => return (sent, Some(error)),
            }
        }
    }
    (sent, writer.shutdown().await.err())
}

#[derive(Debug, Default)]
struct Back {
    received: u64,
    error: Option<String>,
    longest_gap: Duration,
}

/// Reads to the end and compares; `closed` turns true once our half is closed and the rest has to come.
async fn compare<R: AsyncRead>(reader: R, mut closed: watch::Receiver<bool>) -> Back {
    let mut reader = std::pin::pin!(reader);
    let mut pattern = Pattern::new();
    let mut back = Back::default();
    let (mut found, mut expected) = ([0; CHUNK], [0; CHUNK]);
    let mut last = Instant::now();
    let mut watched = closed.clone();
    let rest_deadline = async {
        let _ = watched.wait_for(|closed| *closed).await;
        tokio::time::sleep(REST_DEADLINE).await;
    };
    let mut rest_deadline = std::pin::pin!(rest_deadline);
    loop {
        let read = tokio::select! {
            read = reader.read(&mut found) => read,
            () = &mut rest_deadline => return back.failed("the rest did not come back within 10 s".to_owned()),
        };
        let length = match read {
            Ok(length) => length,
            Err(error) => return back.failed(format!("read: {error}")),
        };
        back.longest_gap = back.longest_gap.max(last.elapsed());
        last = Instant::now();
        let (Some(found), Some(expected)) = (found.get(..length), expected.get_mut(..length)) else { return back };
        if found.is_empty() {
            if *closed.borrow_and_update() {
                return back;
            }
            return back.failed("the peer closed first".to_owned());
        }
        pattern.fill(expected);
        let right = found.iter().zip(expected.iter()).take_while(|(found, expected)| found == expected).count();
        back.received += right as u64;
        if right < length {
            let position = back.received;
            return back.failed(format!("byte {position} is not the one that was sent"));
        }
    }
}

impl Back {
    fn failed(mut self, error: String) -> Self {
        self.error = Some(error);
        self
    }
}

/// The endless sequence of bytes that both directions are made of: xorshift64, so that no part repeats another.
#[derive(Debug)]
struct Pattern {
    state: u64,
    left: [u8; 8],
    used: usize,
}

impl Pattern {
    const fn new() -> Self {
        Self { state: 0x9e37_79b9_7f4a_7c15, left: [0; 8], used: 8 }
    }

    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            *byte = self.next_byte();
        }
    }

    fn next_byte(&mut self) -> u8 {
        if self.used == self.left.len() {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            self.left = self.state.to_le_bytes();
            self.used = 0;
        }
        let byte = self.left.get(self.used).copied().unwrap_or_default();
        self.used += 1;
        byte
    }
}

#[cfg(test)]
mod tests;
