//! The task that runs fetches: as many as allowed, the most urgent first.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tls::WorkloadCertificate;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};
use types::Identity;

use super::Shared;
use super::table::Moment;
use crate::{SignError, Signer};

/// How many fetches run at once: enough to warm a full node in seconds, few enough not to flood an authority when all
/// nodes start together.
const CONCURRENCY: usize = 8;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);

type Outcome = Result<WorkloadCertificate, SignError>;

/// Runs until it is aborted; running fetches end with it.
pub(super) async fn run<S: Signer>(shared: Arc<Shared>, signer: Arc<S>) {
    let mut fetches = Fetches { signer, running: JoinSet::new(), identities: HashMap::new() };
    loop {
        while fetches.running.len() < CONCURRENCY {
            let Some(identity) = shared.table().start(Instant::now()) else { break };
            fetches.spawn(identity);
        }
        // With all places taken, only an end can make room.
        let due = shared.table().next_due().filter(|_| fetches.running.len() < CONCURRENCY);
        tokio::select! {
            () = shared.wake.notified() => {}
            () = at(due) => {}
            (identity, outcome) = fetches.next() => settle(&shared, &identity, outcome),
        }
    }
}

struct Fetches<S> {
    signer: Arc<S>,
    running: JoinSet<Outcome>,
    identities: HashMap<Id, Identity>,
}

impl<S: Signer> Fetches<S> {
    fn spawn(&mut self, identity: Identity) {
        let signer = Arc::clone(&self.signer);
        let whose = identity.clone();
        let fetch = async move {
            let attempt = Box::pin(signer.sign(&whose));
            timeout(ATTEMPT, attempt).await.unwrap_or(Err(SignError::Timeout(ATTEMPT)))
        };
        let handle = self.running.spawn(fetch);
        self.identities.insert(handle.id(), identity);
    }

    /// The next fetch that ends; never ready while none runs.
    async fn next(&mut self) -> (Identity, Outcome) {
        loop {
            let (id, outcome) = match self.running.join_next_with_id().await {
                None => pending().await,
                Some(Ok((id, outcome))) => (id, outcome),
                Some(Err(error)) => (error.id(), Err(broken(&error))),
            };
            if let Some(identity) = self.identities.remove(&id) {
                return (identity, outcome);
            }
        }
    }
}

fn settle(shared: &Shared, identity: &Identity, outcome: Outcome) {
    let now = Moment { instant: Instant::now(), time_of_day: shared.clock.now() };
    match outcome.and_then(|certificate| usable(certificate, now)) {
        Ok(certificate) => {
            tracing::debug!(%identity, "certificate received");
            shared.table().succeed(identity, certificate, now);
        }
        Err(error) => {
            let cause = Arc::new(error);
            let retry = shared.table().fail(identity, Arc::clone(&cause), now, rand::random());
            tracing::warn!(%identity, error = %cause, ?retry, "cannot get certificate");
        }
    }
}

/// A certificate that is over when it comes is as good as none.
fn usable(certificate: WorkloadCertificate, now: Moment) -> Outcome {
    if certificate.not_after() <= now.time_of_day {
        return Err(SignError::Expired);
    }
    Ok(certificate)
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}

/// A signer that panicked must not end the renewal of everybody else.
fn broken(error: &JoinError) -> SignError {
    SignError::Broken(error.to_string())
}
