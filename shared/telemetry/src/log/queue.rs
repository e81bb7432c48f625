//! The writer: a bounded queue of lines and the thread that formats and writes them.
//!
//! Connections never wait for the log.
//! Lines are gathered for a moment, so that a burst of them costs the data threads one wake-up, not one each.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::Level;

use super::render::Entry;
use super::{FieldValue, Layout};
use crate::access::Recorded;

/// How many lines may wait; when as many do, further ones are counted and dropped, and the log says how many.
/// At a quarter of a KiB each this bounds the memory of a log that nobody reads.
const CAPACITY: usize = 32_768;

/// How long lines are gathered before they are written.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the process may wait for the last lines.
const FAREWELL: Duration = Duration::from_secs(1);

/// One line, or what it will be made of.
pub(crate) enum Line {
    /// A finished line.
    Rendered(String),
    /// An access record, formatted by the writer.
    Access(Box<Recorded>),
}

/// Lines on their way to the writer.
pub(crate) struct Queue {
    layout: Layout,
    state: Mutex<State>,
    /// Told when the first line arrives, and at the end.
    wake: Condvar,
    /// Told when the writer has written everything and left.
    done: Condvar,
}

#[derive(Default)]
struct State {
    lines: Vec<Line>,
    dropped: u64,
    is_finishing: bool,
    is_done: bool,
}

impl Queue {
    /// Starts the writer.
    pub(crate) fn start(layout: Layout, out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue =
            Arc::new(Self { layout, state: Mutex::new(State::default()), wake: Condvar::new(), done: Condvar::new() });
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(out))?;
        Ok(queue)
    }

    pub(crate) fn layout(&self) -> Layout {
        self.layout
    }

    /// Queues a line, or counts it as dropped when too many wait.
    pub(crate) fn push(&self, line: Line) {
        let mut state = self.lock();
        if state.lines.len() >= CAPACITY || state.is_done {
            state.dropped += 1;
            return;
        }
        state.lines.push(line);
        let is_first = state.lines.len() == 1;
        drop(state);
        if is_first {
            self.wake.notify_one();
        }
    }

    /// Writes what is left and ends the writer; later lines are dropped.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        state.is_finishing = true;
        self.wake.notify_one();
        let _ = self.done.wait_timeout_while(state, FAREWELL, |state| !state.is_done);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        let mut text = String::new();
        loop {
            let (dropped, is_last) = self.take(&mut lines);
            for line in lines.drain(..) {
                match line {
                    Line::Rendered(line) => text.push_str(&line),
                    Line::Access(recorded) => recorded.render(self.layout, &mut text),
                }
            }
            if dropped > 0 {
                self.say_dropped(dropped, &mut text);
            }
            // A log that cannot be written has nobody to be told.
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
            text.clear();
            // A burst must not keep its memory for ever.
            text.shrink_to(64 * 1024);
            lines.shrink_to(1024);
            if is_last {
                self.lock().is_done = true;
                self.done.notify_all();
                return;
            }
        }
    }

    /// Waits for lines, gathers for a moment, and takes them; without bound, because a program may have nothing to say.
    fn take(&self, lines: &mut Vec<Line>) -> (u64, bool) {
        let is_idle = |state: &mut State| state.lines.is_empty() && !state.is_finishing;
        let state = self.wake.wait_while(self.lock(), is_idle).unwrap_or_else(PoisonError::into_inner);
        let (mut state, _) = self
            .wake
            .wait_timeout_while(state, GATHER, |state| !state.is_finishing)
            .unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut state.lines, lines);
        (mem::take(&mut state.dropped), state.is_finishing)
    }

    fn say_dropped(&self, dropped: u64, text: &mut String) {
        let entry = Entry {
            time: SystemTime::now(),
            level: Level::WARN,
            target: "log",
            spans: &[],
            message: "log lines were dropped because they came faster than they could be written",
            fields: &[("lines", FieldValue::Unsigned(dropped))],
        };
        entry.render(self.layout, text);
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.lock().lines.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Sends each write to a channel, and waits before the first until told to.
    struct Slow {
        start: mpsc::Receiver<()>,
        written: mpsc::Sender<String>,
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.start.recv();
            let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_log_drops_lines_and_says_so_instead_of_waiting() {
        let (go, start) = mpsc::channel();
        let (written, read) = mpsc::channel();
        let queue = Queue::start(Layout::Plain, Slow { start, written }).unwrap();
        for _ in 0..2 * CAPACITY + 7 {
            queue.push(Line::Rendered("x\n".to_owned()));
        }
        drop(go);
        queue.finish();
        let text: String = read.try_iter().collect();
        let kept = text.lines().filter(|line| *line == "x").count();
        let said: usize = text
            .lines()
            .filter_map(|line| line.split_once("lines="))
            .map(|(_, count)| count.parse::<usize>().unwrap())
            .sum();
        assert!(kept >= CAPACITY && said > 0, "{kept} kept, {said} said to be dropped");
        assert_eq!(kept + said, 2 * CAPACITY + 7);
    }

    #[test]
    fn the_last_lines_are_written_before_the_end() {
        let (go, start) = mpsc::channel();
        let (written, read) = mpsc::channel();
        drop(go);
        let queue = Queue::start(Layout::Plain, Slow { start, written }).unwrap();
        queue.push(Line::Rendered("last\n".to_owned()));
        queue.finish();
        assert_eq!(read.try_iter().collect::<String>(), "last\n");
    }
}
