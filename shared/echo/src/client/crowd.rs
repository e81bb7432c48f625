//! Many connections to a TCP echo at the same time: each exchanges bytes when it opens, and once more when all are open.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::tally::Failures;
use crate::EchoError;

/// Connections that are being opened, or that exchange bytes, at the same time.
const AT_ONCE: usize = 64;

/// Most connections that are accepted: a client has no more ports.
const MAX_CONNECTIONS: usize = 60_000;

/// How many connections to hold, and for how long.
#[derive(Debug, Clone)]
pub struct Options {
    /// `host:port` of a TCP echo.
    pub to: String,
    /// How many, 1 to 60,000.
    pub connections: usize,
    /// Once all are open they stay idle for this time; `None` means until the caller's `stop` resolves.
    pub duration: Option<Duration>,
    /// A connection has failed that takes longer to open or to exchange bytes.
    pub timeout: Duration,
}

/// What became of the connections.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// The peer's address.
    pub target: String,
    /// Connections that opened and exchanged their first bytes.
    pub opened: usize,
    /// Those of them that exchanged bytes again after the last one had opened, and then closed in order.
    pub ok: usize,
    /// All others.
    pub failed: u64,
    /// The failed ones by reason.
    pub reasons: BTreeMap<String, u64>,
    /// For how long connections were opened.
    pub opening_seconds: f64,
    /// From the second exchange's begin until all were closed.
    pub exchanging_seconds: f64,
}

/// Opens all connections, keeps them until the end, exchanges bytes on each of them again and closes them.
///
/// `started` is called once the target's address is known, and `opened` with the number of open connections once there
/// are no more to come: from then on they are idle until the duration is over or `stop` resolves.
///
/// # Errors
/// Only for options that make no sense and for a name without address: a connection's failure is part of the report.
pub async fn run(
    options: &Options,
    started: impl FnOnce(SocketAddr),
    opened: impl FnOnce(usize),
    stop: impl Future<Output = ()>,
) -> Result<Report, EchoError> {
    if !(1..=MAX_CONNECTIONS).contains(&options.connections) {
        let why = format!("{} connections are not between 1 and {MAX_CONNECTIONS}", options.connections);
        return Err(EchoError::Invalid(why));
    }
    let address = super::resolve(&options.to).await?;
    started(address);
    let (begun, mut failures) = (Instant::now(), Failures::default());
    let opening = (0..options.connections).map(|number| limited(options.timeout, "open", open(address, number)));
    let held = all(opening, &mut failures, begun).await;
    let mut report = Report { target: address.to_string(), opened: held.len(), ..Report::default() };
    report.opening_seconds = begun.elapsed().as_secs_f64();
    opened(held.len());
    super::ended(options.duration, stop).await;
    let again = Instant::now();
    let closing = held.into_iter().map(|held| limited(options.timeout, "again", close(held)));
    report.ok = all(closing, &mut failures, begun).await.len();
    report.exchanging_seconds = again.elapsed().as_secs_f64();
    (report.failed, report.reasons) = (failures.total, failures.reasons);
    Ok(report)
}

/// An open connection and its number.
struct Held {
    number: usize,
    stream: TcpStream,
}

/// Runs everything, [`AT_ONCE`] at a time; what succeeded.
async fn all<T, F>(work: impl Iterator<Item = F>, failures: &mut Failures, start: Instant) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T, String>> + Send + 'static,
{
    let (mut tasks, mut done) = (JoinSet::new(), Vec::new());
    let mut take = |outcome: Result<Result<T, String>, tokio::task::JoinError>| match outcome {
        Ok(Ok(value)) => done.push(value),
        Ok(Err(reason)) => failures.record(reason, start.elapsed()),
        Err(error) => failures.record(format!("client: {error}"), start.elapsed()),
    };
    for one in work {
        if tasks.len() >= AT_ONCE
            && let Some(outcome) = tasks.join_next().await
        {
            take(outcome);
        }
        tasks.spawn(one);
    }
    while let Some(outcome) = tasks.join_next().await {
        take(outcome);
    }
    done
}

async fn limited<T>(limit: Duration, step: &str, work: impl Future<Output = io::Result<T>>) -> Result<T, String> {
    match timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{step}: {error}")),
        Err(_elapsed) => Err(format!("{step}: timed out")),
    }
}

async fn open(address: SocketAddr, number: usize) -> io::Result<Held> {
    let mut stream = TcpStream::connect(address).await?;
    // Failure only costs latency.
    let _ = stream.set_nodelay(true);
    exchange(&mut stream, &format!("first {number}")).await?;
    Ok(Held { number, stream })
}

/// The second exchange, and the end in order: nothing more comes.
async fn close(held: Held) -> io::Result<()> {
    let Held { number, mut stream } = held;
    exchange(&mut stream, &format!("again {number}")).await?;
    stream.shutdown().await?;
    match stream.read(&mut [0]).await? {
        0 => Ok(()),
        _more => Err(different("more bytes than were sent came back")),
    }
}

/// Sends a text that no other connection sends, and takes it back.
async fn exchange(stream: &mut TcpStream, text: &str) -> io::Result<()> {
    stream.write_all(text.as_bytes()).await?;
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).await?;
    if back == text.as_bytes() { Ok(()) } else { Err(different("other bytes came back")) }
}

fn different(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests;
