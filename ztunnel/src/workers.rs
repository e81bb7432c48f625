//! The threads that carry connections: each has a runtime of its own, and what is placed on one stays there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::oneshot;

/// A worker may carry more than the least busy one by this fraction of what that one carries: one in so many.
const TOLERANCE: usize = 4;

/// Worker threads; dropping them ends their runtimes and everything on them.
pub(crate) struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    desk: Desk,
    /// Dropped to end the worker.
    _stop: oneshot::Sender<()>,
    _thread: JoinHandle<()>,
}

/// A worker as those see it who have work for one.
#[derive(Debug, Clone)]
pub(crate) struct Desk {
    pub(crate) runtime: Handle,
    /// How many connections of workloads it carries from their beginning.
    pub(crate) connections: Load,
    /// How many connections of other proxies, with whatever is in them.
    pub(crate) tunnels: Load,
}

/// How many of a kind a worker carries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

/// One that is carried.
pub(crate) struct Carried(Load);

impl Load {
    /// Counts one more, until that is dropped.
    pub(crate) fn carry(&self) -> Carried {
        self.0.fetch_add(1, Ordering::Relaxed);
        Carried(self.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// Starts `count` threads.
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(start).collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    /// Where the work goes.
    pub(crate) fn desks(&self) -> impl ExactSizeIterator<Item = &Desk> + Clone {
        self.workers.iter().map(|worker| &worker.desk)
    }

    /// The same, beginning with the worker of this number, counted round.
    pub(crate) fn desks_from(&self, first: usize) -> impl Iterator<Item = &Desk> {
        self.desks().cycle().skip(first % self.workers.len()).take(self.workers.len())
    }
}

/// The one with the least load, where that is clearly less than `own` has; otherwise `own`, which costs no wake-up.
///
/// The kernel spreads connections by a hash of their addresses. That is fair to thousands; of two busy tunnels both may
/// lie on one worker, with the other idle.
pub(crate) fn least<'a, T>(own: &'a T, all: &'a [T], load: impl Fn(&T) -> usize) -> &'a T {
    let Some(least) = all.iter().min_by_key(|one| load(one)) else { return own };
    let fewest = load(least);
    if load(own) > fewest + fewest / TOLERANCE { least } else { own }
}

fn start(index: usize) -> io::Result<Worker> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let desk = Desk { runtime: runtime.handle().clone(), connections: Load::default(), tunnels: Load::default() };
    let (stop, stopped) = oneshot::channel();
    let run = move || run(&runtime, stopped);
    let thread = thread::Builder::new().name(format!("worker-{index}")).spawn(run)?;
    Ok(Worker { desk, _stop: stop, _thread: thread })
}

fn run(runtime: &Runtime, stopped: oneshot::Receiver<()>) {
    // An error means that the sender was dropped, which is how a worker is stopped.
    let _ = runtime.block_on(stopped);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where arrivals end up of which the first of `loads` accepts all.
    fn accepted_by_the_first(arrivals: usize, loads: [usize; 3]) -> [usize; 3] {
        let mut loads = loads;
        for _ in 0..arrivals {
            let all = [0, 1, 2];
            loads[*least(&0, &all, |worker| loads[*worker])] += 1;
        }
        loads
    }

    #[test]
    fn few_connections_are_spread_evenly() {
        assert_eq!(accepted_by_the_first(1, [0, 0, 0]), [1, 0, 0]);
        assert_eq!(accepted_by_the_first(3, [0, 0, 0]), [1, 1, 1]);
        assert_eq!(accepted_by_the_first(6, [0, 0, 0]), [2, 2, 2]);
    }

    #[test]
    fn many_connections_stay_where_they_are_accepted_until_others_have_clearly_less() {
        assert_eq!(accepted_by_the_first(20, [100, 100, 100]), [120, 100, 100]);
        assert_eq!(accepted_by_the_first(2, [125, 100, 100]), [126, 101, 100]);
        assert_eq!(accepted_by_the_first(10, [0, 100, 100]), [10, 100, 100]);
    }

    #[test]
    fn what_has_ended_is_not_counted() {
        let load = Load::default();
        let first = load.carry();
        let second = load.carry();
        drop(first);
        assert_eq!(load.count(), 1);
        drop(second);
        assert_eq!(load.count(), 0);
    }
}
