//! The end of the process, so that no new connection is refused that somebody could take.
//!
//! Told to end, the process goes on accepting. In each pod it stops as soon as somebody else listens there: a successor.
//! Where nobody does it accepts until its deadline, or until nobody has needed it for a moment; and it takes a pod back
//! whose successor is gone again.

use std::sync::Arc;
use std::time::Duration;

use drain::{Trigger, Watch};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::live::Registry;
use crate::pods::Pods;

/// How often to look whether a successor listens.
const LOOK: Duration = Duration::from_millis(100);

/// How many looks at a pod that is still served go by before one at a pod that was left to a successor.
const LOOKS_BACK: u32 = 10;

/// Without a successor, a process that nobody has needed for this long ends: whoever starts the next one may be waiting.
const CALM: Duration = Duration::from_secs(1);

/// What the end of the process concerns.
pub(crate) struct Succession {
    pub(crate) pods: Pods,
    pub(crate) live: Arc<Registry>,
    /// When the process was told to end, and its deadline.
    pub(crate) process: Watch,
    /// Started when nothing more is taken.
    pub(crate) work: Trigger,
}

impl Succession {
    /// Waits for the order to end, and carries it out.
    pub(crate) async fn run(self) {
        self.process.draining().await;
        self.pods.withdraw();
        tracing::info!(pods = self.pods.served(), live = self.live.len(), "told to end; looking for a successor");
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut calm = Calm { begun: self.live.begun(), since: Instant::now() };
        for number in 0_u32.. {
            tokio::select! {
                biased;
                () = self.process.deadline_passed() => break,
                _ = looks.tick() => {}
            }
            self.pods.leave_to_successors().await;
            if number % LOOKS_BACK == 0 {
                self.pods.take_back().await;
            }
            if calm.is_long_enough(&self.live, self.pods.served()) {
                break;
            }
        }
        tracing::info!(pods = self.pods.served(), live = self.live.len(), "taking no more connections");
        self.work.start_until(self.process.deadline());
    }
}

/// Since when no connection has been live or begun.
struct Calm {
    begun: u64,
    since: Instant,
}

impl Calm {
    fn is_long_enough(&mut self, live: &Registry, served: usize) -> bool {
        let begun = live.begun();
        if begun != self.begun || live.len() > 0 {
            *self = Self { begun, since: Instant::now() };
            return false;
        }
        // Whom everybody has left for a successor need not wait for more.
        served == 0 || self.since.elapsed() >= CALM
    }
}
