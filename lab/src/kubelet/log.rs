//! The output of one run of a container, kept in bounded memory; readers may follow it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use futures::stream;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use crate::api::{LogRequest, LogStream};

/// Most bytes that are kept of one run; the oldest lines go first.
const MAX_KEPT: usize = 2 << 20;

/// A line longer than this is kept in pieces.
const MAX_LINE: usize = 16 * 1024;

/// Bytes handed to a reader at a time, about.
const CHUNK: usize = 32 * 1024;

/// The output of one run.
#[derive(Debug)]
pub(crate) struct Log {
    kept: Mutex<Kept>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    /// Number of the first kept line, counted from the start of the run.
    first: u64,
    bytes: usize,
    is_closed: bool,
}

#[derive(Debug, Clone)]
struct Line {
    at: Timestamp,
    text: Bytes,
    /// False for a piece of a long line, and for a last line that was never ended.
    is_whole: bool,
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { kept: Mutex::default(), changed: watch::Sender::new(0) })
    }

    /// Reads `output` line by line until its end.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(self: Arc<Self>, mut output: R) {
        let mut pending = BytesMut::new();
        loop {
            // No deadline: the container writes when it likes, and its end closes the pipe.
            match output.read_buf(&mut pending).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let mut line = pending.split_to(end + 1);
                line.truncate(end);
                self.push(line.freeze(), true);
            }
            if pending.len() >= MAX_LINE {
                self.push(pending.split().freeze(), false);
            }
        }
        if !pending.is_empty() {
            self.push(pending.freeze(), false);
        }
    }

    /// Adds a line of our own.
    pub(crate) fn say(&self, text: &str) {
        self.push(Bytes::copy_from_slice(text.as_bytes()), true);
    }

    /// Nothing more will come.
    pub(crate) fn close(&self) {
        self.kept().is_closed = true;
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// Reads as `request` asks.
    pub(crate) fn read(self: &Arc<Self>, request: &LogRequest) -> LogStream {
        let changed = self.changed.subscribe();
        let from = self.start(request);
        let reader = Reader {
            log: Arc::clone(self),
            changed,
            next: from,
            follow: request.follow,
            timestamps: request.timestamps,
            left: request.limit_bytes,
        };
        Box::pin(stream::unfold(reader, |mut reader| async move {
            let chunk = reader.next_chunk().await?;
            Some((io::Result::Ok(chunk), reader))
        }))
    }

    /// The number of the first line that is asked for.
    fn start(&self, request: &LogRequest) -> u64 {
        let kept = self.kept();
        let mut from = kept.first;
        if let Some(since) = request.since {
            let older = kept.lines.iter().take_while(|line| line.at < since).count();
            from += older as u64;
        }
        if let Some(tail) = request.tail_lines {
            // Pieces of one line count as one: only whole ones, and an unfinished last one, are counted.
            let mut wanted = tail;
            let mut start = kept.first + kept.lines.len() as u64;
            for (index, line) in kept.lines.iter().enumerate().rev() {
                let is_end_of_line = line.is_whole || index + 1 == kept.lines.len();
                if is_end_of_line && wanted == 0 {
                    break;
                }
                wanted = wanted.saturating_sub(u64::from(is_end_of_line));
                start -= 1;
            }
            from = from.max(start);
        }
        from
    }

    fn push(&self, text: Bytes, is_whole: bool) {
        {
            let mut kept = self.kept();
            kept.bytes += text.len();
            kept.lines.push_back(Line { at: Timestamp::now(), text, is_whole });
            while kept.bytes > MAX_KEPT {
                let Some(oldest) = kept.lines.pop_front() else { break };
                kept.bytes -= oldest.text.len();
                kept.first += 1;
            }
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Reader {
    log: Arc<Log>,
    changed: watch::Receiver<u64>,
    next: u64,
    follow: bool,
    timestamps: bool,
    left: Option<u64>,
}

impl Reader {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            if self.left == Some(0) {
                return None;
            }
            self.changed.borrow_and_update();
            let (chunk, is_closed) = self.take();
            if !chunk.is_empty() {
                return Some(chunk);
            }
            if !self.follow || is_closed {
                return None;
            }
            // No deadline: whoever follows waits for what is written; the reader is dropped when they leave.
            self.changed.changed().await.ok()?;
        }
    }

    fn take(&mut self) -> (Bytes, bool) {
        let kept = self.log.kept();
        self.next = self.next.max(kept.first);
        let skip = usize::try_from(self.next - kept.first).unwrap_or(usize::MAX);
        let mut chunk = BytesMut::new();
        for line in kept.lines.iter().skip(skip) {
            if chunk.len() >= CHUNK {
                break;
            }
            if self.timestamps {
                chunk.extend_from_slice(format!("{} ", line.at.strftime("%Y-%m-%dT%H:%M:%S%.9fZ")).as_bytes());
            }
            chunk.extend_from_slice(&line.text);
            if line.is_whole {
                chunk.extend_from_slice(b"\n");
            }
            self.next += 1;
        }
        if let Some(left) = &mut self.left {
            chunk.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= chunk.len() as u64;
        }
        (chunk.freeze(), kept.is_closed)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;

    use super::*;

    async fn filled(output: &str) -> Arc<Log> {
        let log = Log::new();
        Arc::clone(&log).fill(output.as_bytes()).await;
        log
    }

    async fn read(log: &Arc<Log>, request: LogRequest) -> String {
        let chunks: Vec<_> = log.read(&request).map(|chunk| chunk.unwrap()).collect().await;
        String::from_utf8(chunks.concat()).unwrap()
    }

    #[tokio::test]
    async fn output_comes_back_byte_for_byte() {
        for output in ["", "a", "a\n", "\n\n", "a\nb\nc", &"long ".repeat(20_000), &"x\n".repeat(50_000)] {
            let log = filled(output).await;
            assert_eq!(read(&log, LogRequest::default()).await, output);
        }
    }

    #[tokio::test]
    async fn tail_counts_lines() {
        let tail = |lines| LogRequest { tail_lines: Some(lines), ..LogRequest::default() };
        let log = filled("a\nb\nc\n").await;
        assert_eq!(read(&log, tail(2)).await, "b\nc\n");
        assert_eq!(read(&log, tail(0)).await, "");
        assert_eq!(read(&log, tail(9)).await, "a\nb\nc\n");
        let long = "y".repeat(MAX_LINE * 3);
        let log = filled(&format!("a\n{long}\nz")).await;
        assert_eq!(read(&log, tail(2)).await, format!("{long}\nz"));
    }

    #[tokio::test]
    async fn limit_cuts_at_the_byte() {
        let log = filled("hello\nworld\n").await;
        let request = LogRequest { limit_bytes: Some(8), ..LogRequest::default() };
        assert_eq!(read(&log, request).await, "hello\nwo");
    }

    #[tokio::test]
    async fn the_oldest_lines_go_first() {
        let log = filled(&format!("first\n{}last\n", format!("{}\n", "z".repeat(999)).repeat(3000))).await;
        let kept = read(&log, LogRequest::default()).await;
        assert!(kept.len() <= MAX_KEPT + 3000 && kept.ends_with("last\n") && !kept.contains("first"));
    }

    #[tokio::test]
    async fn a_follower_sees_what_comes_later_and_ends_with_the_run() {
        let log = filled("a\n").await;
        let mut stream = log.read(&LogRequest { follow: true, ..LogRequest::default() });
        assert_eq!(stream.next().await.unwrap().unwrap(), "a\n");
        log.say("b");
        assert_eq!(stream.next().await.unwrap().unwrap(), "b\n");
        log.close();
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn timestamps_come_before_each_line() {
        let log = filled("a\nb\n").await;
        let text = read(&log, LogRequest { timestamps: true, ..LogRequest::default() }).await;
        for line in text.lines() {
            let (time, _) = line.split_once(' ').unwrap();
            assert!(time.parse::<Timestamp>().is_ok() && time.len() == 30, "{line}");
        }
    }
}
