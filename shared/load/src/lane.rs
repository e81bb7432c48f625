//! Lanes: each sends one request after the other, when they are due.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::{Answer, Client, Dial};
use crate::outcome::Failure;
use crate::recorder::{Recorder, Sent};
use crate::schedule::{Arrivals, Next};
use crate::timer::Timer;
use crate::watchdog::Watchdog;

/// How long a closed loop waits after a failure: a peer that is gone is not worth a whole processor.
const AFTER_FAILURE: Duration = Duration::from_millis(10);

/// What all lanes of a run share.
#[derive(Debug)]
pub(crate) struct Shared<D> {
    pub(crate) dial: Arc<D>,
    /// Never contended: all lanes are on one thread.
    pub(crate) recorder: Mutex<Recorder>,
    /// How long connecting and an answer may take together.
    pub(crate) timeout: Duration,
    /// Whether a connection is used again.
    pub(crate) keep_alive: bool,
    /// What has not been sent by then is not sent any more.
    pub(crate) give_up: Instant,
}

/// Sends what `arrivals` says until nothing is due any more.
pub(crate) async fn run<D: Dial>(
    shared: Arc<Shared<D>>,
    lane: u32,
    mut client: Option<D::Client>,
    mut arrivals: Arrivals,
) -> io::Result<()> {
    let mut timer = Timer::new()?;
    let mut watchdog = Watchdog::new(shared.timeout);
    let mut free = Instant::now();
    loop {
        let (due, at) = match arrivals.next(free) {
            Next::End => return Ok(()),
            Next::At(due) if free >= shared.give_up => {
                shared.record(|recorder| recorder.unsent(due));
                continue;
            }
            Next::At(due) => (Some(due), timer.until(due).await?),
            Next::Now => (None, free),
        };
        let answer = watchdog.guard(at, exchange(&*shared.dial, lane, &mut client)).await;
        let now = Instant::now();
        let answer = answer.unwrap_or(Err(Failure::Timeout));
        let result = answer.and_then(|answer| if answer.is_success { Ok(()) } else { Err(Failure::Status) });
        shared.record(|recorder| recorder.ended(Sent { due, free, at }, now, result));
        free = now;
        match answer {
            Ok(answer) if answer.is_kept && shared.keep_alive => {}
            Ok(_) => {
                if let Some(client) = client.take() {
                    // A peer that does not close in time is closed by letting go.
                    let _ = watchdog.guard(now, client.closed()).await;
                }
                free = Instant::now();
            }
            Err(_) => {
                client = None;
                if due.is_none() {
                    tokio::time::sleep(AFTER_FAILURE).await;
                    free = Instant::now();
                }
            }
        }
    }
}

async fn exchange<D: Dial>(dial: &D, lane: u32, client: &mut Option<D::Client>) -> Result<Answer, Failure> {
    let client = match client {
        Some(client) => client,
        None => client.insert(dial.dial(lane).await?),
    };
    client.exchange().await
}

impl<D> Shared<D> {
    fn record(&self, change: impl FnOnce(&mut Recorder)) {
        change(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
