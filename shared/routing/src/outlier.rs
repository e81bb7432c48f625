//! Endpoints that fail, and are left alone for a while.

mod policy;

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use rand::Rng;

use self::policy::Count;
pub use self::policy::{Failure, FailureLimit, OutlierPolicy, Report};

/// The endpoints of a cluster by their keys, how often each failed of late, and which are ejected: those are not to be used,
/// unless there is nothing else.
#[derive(Debug, Clone)]
pub struct Outliers<K> {
    policy: OutlierPolicy,
    endpoints: HashMap<K, Record>,
    ejected: usize,
}

/// An endpoint that is ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// What it did too often.
    pub failure: Failure,
    /// For how long at least; it comes back with the first sweep after that.
    pub lasts: Duration,
}

/// What an endpoint did of late.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    server_errors: u32,
    gateway_failures: u32,
    local_failures: u32,
    /// How often it was ejected, less the intervals that it has been back for.
    times: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
enum State {
    #[default]
    NeverEjected,
    Ejected {
        until: Duration,
    },
    Back {
        since: Duration,
    },
}

impl<K: Eq + Hash + Clone> Outliers<K> {
    /// Without endpoints.
    #[must_use]
    pub fn new(policy: OutlierPolicy) -> Self {
        Self { policy, endpoints: HashMap::new(), ejected: 0 }
    }

    /// Says which endpoints there are; what is known about those that stay is kept.
    pub fn set_endpoints(&mut self, keys: impl IntoIterator<Item = K>) {
        let mut before = std::mem::take(&mut self.endpoints);
        for key in keys {
            match before.remove_entry(&key) {
                Some((key, record)) => _ = self.endpoints.insert(key, record),
                None => _ = self.endpoints.entry(key).or_default(),
            }
        }
        self.ejected = self.endpoints.values().filter(|record| record.is_ejected()).count();
    }

    /// Whether an endpoint is ejected.
    #[must_use]
    pub fn is_ejected(&self, key: &K) -> bool {
        self.endpoints.get(key).is_some_and(Record::is_ejected)
    }

    /// Takes note of what became of a request, and returns whether its endpoint is ejected for that; `now` is the time since
    /// anything that does not change.
    pub fn record(&mut self, key: &K, report: Report, now: Duration, random: &mut impl Rng) -> Option<Ejection> {
        let count = self.endpoints.len();
        let record = self.endpoints.get_mut(key)?;
        // A failure may be too many in two ways.
        let mut ejection = None;
        for failure in record.count(self.policy.judge(report), &self.policy) {
            if record.is_ejected() {
                continue;
            }
            record.reset(failure);
            if self.policy.admits(self.ejected, count) && self.policy.enforces(failure, random) {
                self.ejected += 1;
                ejection = Some(Ejection { failure, lasts: record.eject(&self.policy, now, random) });
            }
        }
        ejection
    }

    /// Lets endpoints come back whose time is over, and returns them; to be called every [interval](OutlierPolicy::interval).
    pub fn sweep(&mut self, now: Duration) -> Vec<K> {
        let mut back = Vec::new();
        for (key, record) in &mut self.endpoints {
            match record.state {
                State::Ejected { until } if until <= now => {
                    *record = Record { times: record.times, state: State::Back { since: now }, ..Record::default() };
                    back.push(key.clone());
                }
                State::Back { since } if now.saturating_sub(since) >= self.policy.interval => {
                    record.times = record.times.saturating_sub(1);
                }
                _ => {}
            }
        }
        self.ejected = self.ejected.saturating_sub(back.len());
        back
    }
}

impl Record {
    fn is_ejected(&self) -> bool {
        matches!(self.state, State::Ejected { .. })
    }

    /// Counts a request, and returns which failures are too many now.
    fn count(&mut self, count: Count, policy: &OutlierPolicy) -> impl Iterator<Item = Failure> + use<> {
        let mut reached = [None; 2];
        match count {
            Count::Nothing => {}
            Count::Success => (self.server_errors, self.gateway_failures) = (0, 0),
            Count::ServerError { is_gateway } => {
                self.gateway_failures = if is_gateway { self.gateway_failures.saturating_add(1) } else { 0 };
                self.server_errors = self.server_errors.saturating_add(1);
                // At the limit, not above it: an ejected endpoint that goes on failing reaches it once.
                reached = [
                    (is_gateway && self.gateway_failures == policy.gateway_failures.count).then_some(Failure::Gateway),
                    (self.server_errors == policy.server_errors.count).then_some(Failure::Server),
                ];
            }
            Count::LocalSuccess => self.local_failures = 0,
            Count::LocalFailure => {
                self.local_failures = self.local_failures.saturating_add(1);
                reached = [(self.local_failures == policy.local_failures.count).then_some(Failure::Local), None];
            }
        }
        reached.into_iter().flatten()
    }

    fn reset(&mut self, failure: Failure) {
        match failure {
            Failure::Gateway => self.gateway_failures = 0,
            Failure::Server => self.server_errors = 0,
            Failure::Local => self.local_failures = 0,
        }
    }

    fn eject(&mut self, policy: &OutlierPolicy, now: Duration, random: &mut impl Rng) -> Duration {
        let base = policy.base_ejection;
        let max = policy.max_ejection.max(base);
        // Up to once above the maximum, so that coming back to the base takes as long as getting here.
        if base.saturating_mul(self.times) < max.saturating_add(base) {
            self.times += 1;
        }
        let lasts = base.saturating_mul(self.times).min(max) + policy.jitter(random);
        self.state = State::Ejected { until: now + lasts };
        lasts
    }
}

#[cfg(test)]
mod tests;
