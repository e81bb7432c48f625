//! One connection: the first bytes say what it is for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use linux::socket::{Keepalive, Tuning, tuned};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::Instant;

use super::bulk::Handed;
use super::{http1, http2, raw};
use crate::preamble::{LENGTH, MAGIC, Purpose};
use crate::timer::Timer;
use crate::watchdog::Watchdog;

/// Bytes that are read at a time, and of a request's head at most.
const BUFFER: usize = 16 << 10;

/// How HTTP/2 begins.
const HTTP2: &[u8] = b"PRI ";

/// How long a request or the reading of an answer may take to begin or go on. Longer than any pause within a comparison.
const PATIENCE: Duration = Duration::from_secs(600);

/// When a peer that says nothing, as held connections may, counts as gone.
const KEEPALIVE: Keepalive = Keepalive { time: Duration::from_secs(60), interval: Duration::from_secs(10), retries: 3 };

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) delay: Duration,
    pub(super) places: Arc<Semaphore>,
    /// Where bulk connections go.
    pub(super) bulk: mpsc::Sender<Handed>,
}

/// What has been read of a connection and not been used yet.
#[derive(Debug)]
pub(super) struct Input {
    pub(super) stream: TcpStream,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    pub(super) watchdog: Watchdog,
}

/// Serves it until it ends. Whatever goes wrong is the peer's to tell.
pub(super) async fn serve(stream: TcpStream, shared: &Shared) {
    let buffer = vec![0; BUFFER].into();
    let mut input = Input { stream, buffer, start: 0, end: 0, watchdog: Watchdog::new(PATIENCE) };
    let _ = match begins(&mut input).await {
        Ok(Protocol::Http1) => http1::serve(input, shared).await,
        Ok(Protocol::Http2) => match keep_alive(&input.stream) {
            Ok(()) => http2::serve(input.stream, input.buffer.get(..input.end).unwrap_or_default(), shared.delay).await,
            Err(error) => Err(error),
        },
        Ok(Protocol::Raw(Purpose::PingPong { request, response })) => {
            raw::ping_pong(input, request, response, shared).await
        }
        Ok(Protocol::Raw(Purpose::Once)) => raw::once(input).await,
        Ok(Protocol::Raw(Purpose::Hold)) => match keep_alive(&input.stream) {
            // The buffer is let go: these are many.
            Ok(()) => raw::hold(input.stream).await,
            Err(error) => Err(error),
        },
        Ok(Protocol::Raw(Purpose::Upload)) => hand_over(input, Purpose::Upload, shared).await,
        Ok(Protocol::Raw(Purpose::Download)) => hand_over(input, Purpose::Download, shared).await,
        Err(error) => Err(error),
    };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Http1,
    Http2,
    Raw(Purpose),
}

async fn begins(input: &mut Input) -> io::Result<Protocol> {
    loop {
        if !input.more().await? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(protocol) = tell(input.bytes())? {
            if let Protocol::Raw(_) = protocol {
                input.take(LENGTH);
            }
            return Ok(protocol);
        }
    }
}

/// Nothing while more bytes are needed.
fn tell(bytes: &[u8]) -> io::Result<Option<Protocol>> {
    let is_begun = |whole: &[u8]| whole.starts_with(bytes.get(..whole.len()).unwrap_or(bytes));
    if is_begun(HTTP2) {
        return Ok((bytes.len() >= HTTP2.len()).then_some(Protocol::Http2));
    }
    if !is_begun(MAGIC) {
        return Ok(Some(Protocol::Http1));
    }
    let Some(preamble) = bytes.first_chunk() else { return Ok(None) };
    let purpose = Purpose::decode(preamble).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Some(Protocol::Raw(purpose)))
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    tuned(stream, Tuning { keepalive: Some(KEEPALIVE), no_delay: true, ..Tuning::default() })
}

async fn hand_over(input: Input, purpose: Purpose, shared: &Shared) -> io::Result<()> {
    keep_alive(&input.stream)?;
    let surplus = input.bytes().len() as u64;
    let handed = Handed { stream: input.stream.into_std()?, purpose, surplus };
    shared.bulk.send(handed).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

impl Input {
    /// What has been read and not been used.
    pub(super) fn bytes(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Uses `count` of them.
    pub(super) fn take(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Reads more; `false` at the end.
    ///
    /// # Errors
    ///
    /// The buffer is full, or the peer takes too long.
    pub(super) async fn more(&mut self) -> io::Result<bool> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let free = self.buffer.get_mut(self.end..).unwrap_or_default();
        if free.is_empty() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.watchdog.guard(Instant::now(), self.stream.read(free)).await;
        let count = read.ok_or(io::ErrorKind::TimedOut)??;
        self.end += count;
        Ok(count > 0)
    }

    /// Reads and drops `count` bytes.
    pub(super) async fn skip(&mut self, mut count: usize) -> io::Result<()> {
        loop {
            let here = count.min(self.bytes().len());
            self.take(here);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        use tokio::io::AsyncWriteExt as _;
        let written = self.watchdog.guard(Instant::now(), self.stream.write_all(bytes)).await;
        written.ok_or(io::ErrorKind::TimedOut)?
    }
}

/// Holds answers back, to the microsecond.
#[derive(Debug)]
pub(super) struct Delay(Option<(Duration, Timer)>);

impl Delay {
    pub(super) fn new(delay: Duration) -> io::Result<Self> {
        Ok(Self(if delay.is_zero() { None } else { Some((delay, Timer::new()?)) }))
    }

    pub(super) async fn pass(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Some((delay, timer)) => timer.until(Instant::now() + *delay).await.map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_apart_by_their_first_bytes() {
        let told = |bytes: &[u8]| tell(bytes).unwrap();
        assert_eq!(told(b"GET / HTTP/1.1\r\n\r\n"), Some(Protocol::Http1));
        assert_eq!(told(b"P"), None);
        assert_eq!(told(b"PO"), Some(Protocol::Http1));
        assert_eq!(told(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Protocol::Http2));
        let preamble = Purpose::Upload.encode();
        assert_eq!(told(&preamble[..15]), None);
        assert_eq!(told(&preamble), Some(Protocol::Raw(Purpose::Upload)));
        assert!(tell(b"AQLOAD1\xff00000000").is_err());
    }
}
