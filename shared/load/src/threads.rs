//! Threads that accept the connections of one address, each with a runtime of its own.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use linux::socket::{ListenOptions, listen};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

/// Connections that may wait to be accepted: a generator opens a thousand at once.
const BACKLOG: u32 = 4096;

/// How long a thread waits when the system has no descriptor left.
pub(crate) const AFTER_FAILURE: Duration = Duration::from_millis(50);

/// A listener for each thread, all of one address, in the calling thread's network namespace; the system spreads what
/// arrives.
pub(crate) fn bind(address: SocketAddr, threads: usize) -> io::Result<(SocketAddr, Vec<TcpListener>)> {
    let options = ListenOptions { reuse_port: threads > 1, backlog: BACKLOG, ..ListenOptions::default() };
    let first = listen(address, &options)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(address, &options)?);
    }
    Ok((address, listeners))
}

/// Threads that end together.
pub(crate) struct Threads {
    stop: watch::Sender<()>,
    ends: Vec<oneshot::Receiver<io::Result<()>>>,
}

impl Threads {
    pub(crate) fn new() -> Self {
        Self { stop: watch::Sender::new(()), ends: Vec::new() }
    }

    /// Runs `work` on a thread of its own until it ends, or all are to end.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        work: impl Future<Output = io::Result<()>> + Send + 'static,
    ) -> io::Result<()> {
        let mut stopped = self.stop.subscribe();
        let (tell, told) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name(name.to_owned()).spawn(move || {
            let result = runtime.block_on(async {
                tokio::select! {
                    result = work => result,
                    // Fails once the sender is gone, which is the end.
                    _ = stopped.changed() => Ok(()),
                }
            });
            drop(runtime);
            let _ = tell.send(result);
        })?;
        self.ends.push(told);
        Ok(())
    }

    /// Ends all of them when `end` resolves; what the first that failed said.
    pub(crate) async fn until(self, end: impl Future<Output = ()>) -> io::Result<()> {
        end.await;
        drop(self.stop);
        for told in self.ends {
            // Gone without a word: it has ended, too.
            told.await.unwrap_or(Ok(()))?;
        }
        Ok(())
    }
}
