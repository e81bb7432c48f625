//! A signer that does as the test says and writes down what it was asked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use identity::{CertificateStore, Clock, SignError, Signer};
use tls::{Authority, CertificateRequest, SigningRequest, WorkloadCertificate};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use types::Identity;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn identity(account: &str) -> Identity {
    format!("spiffe://cluster.local/ns/shop/sa/{account}").parse().unwrap()
}

pub(crate) fn authority() -> Authority {
    Authority::self_signed(&identity("any").trust_domain, 10_000 * HOUR).unwrap()
}

/// What a signer does with the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Signs at once.
    Willing,
    /// Says no at once.
    Unwilling,
    /// Never answers.
    Hung,
    /// Panics.
    Broken,
    /// Signs once the test adds a permit.
    Gated,
}

/// The signer's view of the world; the test's handle on it.
pub(crate) struct Desk {
    authority: Authority,
    clock: Clock,
    pub(crate) mood: Mutex<Mood>,
    pub(crate) ttl: Mutex<Duration>,
    pub(crate) gate: Semaphore,
    /// Who was asked for, in order, and when.
    calls: Mutex<Vec<(String, Instant)>>,
    running: AtomicUsize,
    most: AtomicUsize,
}

impl Desk {
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// The service accounts asked for, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|(account, _)| account.clone()).collect()
    }

    /// When each call came, since a moment.
    pub(crate) fn times(&self, since: Instant) -> Vec<Duration> {
        self.calls.lock().unwrap().iter().map(|(_, at)| at.duration_since(since)).collect()
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }

    pub(crate) fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

pub(crate) struct FakeSigner(Arc<Desk>);

/// Counts a call down however it ends.
struct Running<'a>(&'a Desk);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Signer for FakeSigner {
    async fn sign(&self, identity: &Identity) -> Result<WorkloadCertificate, SignError> {
        let desk = &*self.0;
        desk.calls.lock().unwrap().push((identity.service_account.to_string(), Instant::now()));
        desk.most.fetch_max(desk.running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let _running = Running(desk);
        let mood = *desk.mood.lock().unwrap();
        match mood {
            Mood::Willing => {}
            Mood::Unwilling => return Err(SignError::Malformed("request on a bad day".into())),
            Mood::Hung => std::future::pending().await,
            Mood::Broken => panic!("signer panics on purpose"),
            Mood::Gated => desk.gate.acquire().await.unwrap().forget(),
        }
        let ttl = *desk.ttl.lock().unwrap();
        let request = CertificateRequest::generate(identity)?;
        let parsed = SigningRequest::parse(request.csr_pem())?;
        Ok(request.complete(&desk.authority.sign(&parsed, identity, ttl, desk.clock.now())?)?)
    }
}

/// A store whose clock follows tokio's, and the desk of its signer.
pub(crate) fn store(mood: Mood) -> (CertificateStore, Arc<Desk>) {
    store_with(mood, Clock::following_tokio(SystemTime::now()))
}

pub(crate) fn store_with(mood: Mood, clock: Clock) -> (CertificateStore, Arc<Desk>) {
    let desk = Arc::new(Desk {
        authority: authority(),
        clock: clock.clone(),
        mood: Mutex::new(mood),
        ttl: Mutex::new(HOUR),
        gate: Semaphore::new(0),
        calls: Mutex::default(),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    (CertificateStore::new(FakeSigner(Arc::clone(&desk)), clock), desk)
}
