//! The threads that carry connections: each has a runtime of its own, and what begins on one stays there.

use std::io;
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// Worker threads; dropping them ends their runtimes and everything on them.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    handle: Handle,
    /// Dropped to end the worker.
    _stop: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    /// Where to start the tasks of each worker.
    pub(crate) fn handles(&self) -> impl ExactSizeIterator<Item = &Handle> + Clone {
        self.workers.iter().map(|worker| &worker.handle)
    }

    /// The same, beginning with the worker of this number, counted round.
    pub(crate) fn handles_from(&self, first: usize) -> impl Iterator<Item = &Handle> {
        self.handles().cycle().skip(first % self.workers.len()).take(self.workers.len())
    }
}

fn start(index: usize) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel();
    let run = move || run(&runtime, stopped);
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    Ok(Worker { handle, _stop: stop, _thread: thread })
}

fn run(runtime: &Runtime, stopped: oneshot::Receiver<()>) {
    // An error means that the sender was dropped, which is how a worker is stopped.
    let _ = runtime.block_on(stopped);
}
