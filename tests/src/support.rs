//! What the tests stand on: the command, labs, traffic in labs, processes, and waiting with a deadline.

pub(crate) mod authority;
pub(crate) mod envoy;
pub(crate) mod lab;
pub(crate) mod load;
pub(crate) mod processes;
pub(crate) mod program;

use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(crate) use lab::Lab;
pub(crate) use program::Caller;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Waits until `look` finds something, with [`PATIENCE`]; says how long it took.
pub(crate) async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    within(PATIENCE, what, look).await
}

/// Waits until `look` finds something.
pub(crate) async fn within<T>(deadline: Duration, what: &str, look: impl AsyncFnMut() -> Option<T>) -> (T, Duration) {
    explained(deadline, what, look, async || String::new()).await
}

/// As [`within`]; when nothing was found, the failure also says what `explain` tells then.
pub(crate) async fn explained<T>(
    deadline: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
    explain: impl AsyncFnOnce() -> String,
) -> (T, Duration) {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return (found, start.elapsed());
        }
        if start.elapsed() >= deadline {
            let why = explain().await;
            panic!("not within {} s: {what}\n{why}", deadline.as_secs());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// Says that the test cannot run here.
pub(crate) fn skip(why: &str) {
    println!("SKIPPED: {why}");
}
