//! The life of a program: run, drain at the first signal, give up at the second.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tracing::{info, warn};

use crate::{Signal, Signals, Trigger};

/// How long a program may take after its drain is over, to close its files and say goodbye.
const EPILOGUE: Duration = Duration::from_secs(1);

/// How a supervised program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending<T> {
    /// By itself, drained or not.
    Finished(T),
    /// A SIGINT came while it was draining: leave at once.
    Interrupted,
    /// It did not end although its drain was over; `left` pieces of work were still live.
    Overdue {
        /// How many guards were still held.
        left: usize,
    },
}

/// Runs `program` to its end, starts its drain with `grace` at the first signal, and drops it when a SIGINT follows or
/// when it outlives its drain.
///
/// The program must end when it drains, also in the middle of its start-up (see
/// [`Watch::unless_draining`](crate::Watch::unless_draining)).
pub async fn supervise<T>(
    mut signals: Signals,
    trigger: Trigger,
    grace: Duration,
    program: impl Future<Output = T>,
) -> Ending<T> {
    let mut program = pin!(program);
    let watch = trigger.watch();
    tokio::select! {
        biased;
        output = &mut program => return Ending::Finished(output),
        signal = signals.next() => {
            info!(?signal, ?grace, "draining");
            trigger.start(grace);
        }
        // Somebody else started it, with a deadline of their own: an admin request, another part of the program.
        () = watch.draining() => {}
    }
    let second = async { while signals.next().await != Signal::Interrupt {} };
    let overdue = async {
        let drained = trigger.finished().await;
        tokio::time::sleep(EPILOGUE).await;
        drained
    };
    tokio::select! {
        biased;
        output = &mut program => Ending::Finished(output),
        () = second => Ending::Interrupted,
        drained = overdue => {
            warn!(?drained, "the program did not end with its drain");
            Ending::Overdue { left: watch.live() }
        }
    }
}
