//! What is known of each identity and when to ask next; plain data, time is an argument.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tls::WorkloadCertificate;
use tokio::sync::watch;
use tokio::time::Instant;
use types::Identity;

use crate::SignError;

/// The wait after a first failure.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// The longest wait between attempts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(150);

/// Waits are spread by this share either way, so that a node's identities do not all come back at once.
const JITTER: f64 = 0.2;

/// Which fetch goes first; the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Priority {
    /// A renewal, or another attempt.
    Background,
    /// A workload has appeared.
    Warmup,
    /// A connection waits.
    RealTime,
}

/// How an identity stands.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// No attempt has come to an end.
    Initializing,
    /// The last certificate, which is served while it is valid.
    Available(Arc<WorkloadCertificate>),
    /// No valid certificate, and why the last attempt failed.
    Unavailable(Arc<SignError>),
}

#[derive(Debug)]
struct Entry {
    state: watch::Sender<State>,
    priority: Priority,
    /// When to ask next; `None` while a fetch runs.
    next: Option<Instant>,
    failures: u32,
    /// Given up while a fetch runs: goes when that ends.
    is_forgotten: bool,
}

/// All identities.
#[derive(Debug, Default)]
pub(crate) struct Table {
    entries: HashMap<Identity, Entry>,
}

impl Table {
    /// How an identity stands; `None` when it is not known.
    pub(crate) fn state(&self, identity: &Identity) -> Option<State> {
        self.entries.get(identity).map(|entry| entry.state.borrow().clone())
    }

    /// All identities, sorted.
    pub(crate) fn states(&self) -> Vec<(Identity, State)> {
        let known = self.entries.iter().filter(|(_, entry)| !entry.is_forgotten);
        let mut states: Vec<_> =
            known.map(|(identity, entry)| (identity.clone(), entry.state.borrow().clone())).collect();
        states.sort_by(|(left, _), (right, _)| left.cmp(right));
        states
    }

    /// Makes sure that an identity is being taken care of, and lets its next fetch go ahead of lesser ones.
    ///
    /// For a caller that waits it is due at once, whatever was planned.
    pub(crate) fn want(&mut self, identity: &Identity, priority: Priority, now: Instant) -> watch::Receiver<State> {
        let entry = self.entries.entry(identity.clone()).or_insert_with(|| Entry::new(priority, now));
        entry.is_forgotten = false;
        let is_first = matches!(*entry.state.borrow(), State::Initializing);
        if is_first || priority == Priority::RealTime {
            entry.priority = entry.priority.max(priority);
        }
        if priority == Priority::RealTime {
            entry.next = entry.next.map(|next| next.min(now));
        }
        entry.state.subscribe()
    }

    /// Gives an identity up. A fetch that runs comes to its end; its result serves only those who wait for it.
    pub(crate) fn forget(&mut self, identity: &Identity) {
        match self.entries.get_mut(identity) {
            Some(entry) if entry.next.is_none() => entry.is_forgotten = true,
            _ => drop(self.entries.remove(identity)),
        }
    }

    /// Makes everything due whose last attempt failed.
    pub(crate) fn retry(&mut self, now: Instant) {
        for entry in self.entries.values_mut().filter(|entry| entry.failures > 0) {
            entry.next = entry.next.map(|next| next.min(now));
        }
    }

    /// Takes the most urgent fetch that is due; the caller runs it and reports its end.
    pub(crate) fn start(&mut self, now: Instant) -> Option<Identity> {
        let due = self.entries.iter().filter_map(|(identity, entry)| {
            let next = entry.next.filter(|next| *next <= now)?;
            Some(((entry.priority, Reverse(next)), identity))
        });
        let (_, identity) = due.max_by_key(|(urgency, _)| *urgency)?;
        let identity = identity.clone();
        self.entries.get_mut(&identity)?.next = None;
        Some(identity)
    }

    /// When the next fetch is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.entries.values().filter_map(|entry| entry.next).min()
    }

    /// A fetch brought a certificate; `received` is the moment in both of its forms.
    pub(crate) fn succeed(&mut self, identity: &Identity, certificate: WorkloadCertificate, received: Moment) {
        self.finish(identity, |entry| {
            let refresh = certificate.refresh_at(received.time_of_day);
            entry.failures = 0;
            entry.next = Some(received.instant + until(refresh, received.time_of_day));
            State::Available(Arc::new(certificate))
        });
    }

    /// A fetch failed; `spread` is a random number between 0 and 1. Returns when the next attempt is made.
    pub(crate) fn fail(&mut self, identity: &Identity, cause: Arc<SignError>, now: Moment, spread: f64) -> Duration {
        let mut wait = Duration::ZERO;
        self.finish(identity, |entry| {
            wait = backoff(entry.failures, spread);
            entry.failures = entry.failures.saturating_add(1);
            let current = entry.state.borrow().clone();
            let state = match current {
                State::Available(certificate) if certificate.not_after() > now.time_of_day => {
                    wait = wait.min(until(certificate.not_after(), now.time_of_day));
                    State::Available(certificate)
                }
                _ => State::Unavailable(cause),
            };
            entry.next = Some(now.instant + wait);
            state
        });
        wait
    }

    fn finish(&mut self, identity: &Identity, outcome: impl FnOnce(&mut Entry) -> State) {
        let Some(entry) = self.entries.get_mut(identity) else { return };
        entry.priority = Priority::Background;
        let state = outcome(entry);
        entry.state.send_replace(state);
        if entry.is_forgotten {
            self.entries.remove(identity);
        }
    }
}

/// One moment: for waiting, and for comparing with certificates.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) instant: Instant,
    pub(crate) time_of_day: SystemTime,
}

impl Entry {
    fn new(priority: Priority, now: Instant) -> Self {
        let (state, _) = watch::channel(State::Initializing);
        Self { state, priority, next: Some(now), failures: 0, is_forgotten: false }
    }
}

fn until(moment: SystemTime, now: SystemTime) -> Duration {
    moment.duration_since(now).unwrap_or_default()
}

/// 1 s, 2 s, 4 s, … at most 150 s, spread by a fifth either way.
fn backoff(failures: u32, spread: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_BACKOFF);
    doubled.mul_f64(1.0 - JITTER + 2.0 * JITTER * spread.clamp(0.0, 1.0)).min(LONGEST_BACKOFF)
}
