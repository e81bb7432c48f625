//! Certificates by identity: shared fetches, renewal in time, backoff, and a page for the operator.

mod scheduler;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tls::{CertificateDetails, WorkloadCertificate};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use types::Identity;

use self::table::{Priority, State, Table};
use crate::{CertificateError, Clock, Signer};

/// How long a caller waits for a first certificate: an attempt's deadline and some time in the queue before it.
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// Holds the certificates of any number of identities; cheap to clone.
///
/// - At most eight fetches run at once, those that a connection waits for first, then those of new workloads, then
///   renewals; all who want the same identity share one fetch.
/// - A certificate is renewed after half of the validity that it had at receipt; while renewal fails, the old one is
///   served for as long as it is valid.
/// - Without a valid certificate, callers are told at once why the last attempt failed; the next one is made in the
///   background, after 1 s, then twice as long each time, ± 20 %, at most 150 s.
///
/// When the last clone is dropped, its tasks end.
#[derive(Clone)]
pub struct CertificateStore {
    owner: Arc<Owner>,
}

/// What store and scheduler share.
struct Shared {
    table: Mutex<Table>,
    /// Tells the scheduler to look again.
    wake: Notify,
    clock: Clock,
}

/// Ends the scheduler, and with it all fetches, together with the last clone.
struct Owner {
    shared: Arc<Shared>,
    scheduler: JoinHandle<()>,
}

/// One identity as an operator wants to see it.
#[derive(Debug, Clone)]
pub struct Dump {
    /// Who.
    pub identity: Identity,
    /// How it stands.
    pub state: DumpState,
    /// Leaf first, then intermediates; empty without a certificate.
    pub chain: Vec<CertificateDetails>,
    /// The trusted roots; empty without a certificate.
    pub roots: Vec<CertificateDetails>,
}

/// How the certificate of an identity stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DumpState {
    /// The first attempt is under way.
    Initializing,
    /// There is a certificate.
    Available,
    /// There is none, and why.
    Unavailable(String),
}

impl CertificateStore {
    /// An empty store; its tasks run on the current tokio runtime.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(signer: impl Signer, clock: Clock) -> Self {
        let shared = Arc::new(Shared { table: Mutex::default(), wake: Notify::new(), clock });
        let scheduler = tokio::spawn(scheduler::run(Arc::clone(&shared), Arc::new(signer)));
        Self { owner: Arc::new(Owner { shared, scheduler }) }
    }

    /// The certificate of an identity, fetched if need be, ahead of everything else.
    ///
    /// # Errors
    /// [`CertificateError`]: at once when the last attempt failed, otherwise within 15 s.
    pub async fn certificate(&self, identity: &Identity) -> Result<Arc<WorkloadCertificate>, CertificateError> {
        let mut state = match self.ask(identity) {
            Ok(answer) => return answer,
            Err(state) => state,
        };
        let shared = &self.owner.shared;
        let settled = async {
            loop {
                if state.changed().await.is_err() {
                    return Err(CertificateError::Forgotten(identity.clone()));
                }
                if let Some(answer) = answer(identity, &state.borrow_and_update(), shared) {
                    return answer;
                }
            }
        };
        timeout(LONGEST_WAIT, settled).await.map_err(|_elapsed| CertificateError::Timeout(identity.clone()))?
    }

    /// Fetches the certificate of an identity that will soon be needed.
    pub fn warm(&self, identity: &Identity) {
        self.owner.shared.table().want(identity, Priority::Warmup, Instant::now());
        self.owner.shared.wake.notify_one();
    }

    /// Tries at once what failed the last time: whoever signs is back, or may be.
    pub fn retry(&self) {
        self.owner.shared.table().retry(Instant::now());
        self.owner.shared.wake.notify_one();
    }

    /// Gives up an identity that is no longer used on this node.
    pub fn forget(&self, identity: &Identity) {
        self.owner.shared.table().forget(identity);
        self.owner.shared.wake.notify_one();
    }

    /// All identities, sorted.
    #[must_use]
    pub fn dump(&self) -> Vec<Dump> {
        let states = self.owner.shared.table().states();
        states.into_iter().map(|(identity, state)| Dump::new(identity, &state)).collect()
    }

    /// The answer if there is one already, otherwise what to watch.
    fn ask(
        &self,
        identity: &Identity,
    ) -> Result<Result<Arc<WorkloadCertificate>, CertificateError>, watch::Receiver<State>> {
        let shared = &self.owner.shared;
        let mut table = shared.table();
        if let Some(answer) = table.state(identity).and_then(|state| answer(identity, &state, shared)) {
            return Ok(answer);
        }
        let watch = table.want(identity, Priority::RealTime, Instant::now());
        drop(table);
        shared.wake.notify_one();
        Err(watch)
    }
}

/// What a state means to a caller; `None` when it is worth waiting.
///
/// A certificate that is over although nobody noticed (the machine slept) is worth waiting for a new one.
fn answer(
    identity: &Identity,
    state: &State,
    shared: &Shared,
) -> Option<Result<Arc<WorkloadCertificate>, CertificateError>> {
    match state {
        State::Initializing => None,
        State::Available(certificate) if certificate.not_after() <= shared.clock.now() => None,
        State::Available(certificate) => Some(Ok(Arc::clone(certificate))),
        State::Unavailable(cause) => {
            Some(Err(CertificateError::Unavailable { identity: identity.clone(), cause: Arc::clone(cause) }))
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.scheduler.abort();
    }
}

impl Dump {
    fn new(identity: Identity, state: &State) -> Self {
        let (state, chain, roots) = match state {
            State::Initializing => (DumpState::Initializing, Vec::new(), Vec::new()),
            State::Available(certificate) => (DumpState::Available, certificate.chain(), certificate.roots()),
            State::Unavailable(cause) => (DumpState::Unavailable(cause.to_string()), Vec::new(), Vec::new()),
        };
        Self { identity, state, chain, roots }
    }
}

impl fmt::Debug for CertificateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateStore").finish_non_exhaustive()
    }
}
