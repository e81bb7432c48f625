//! Which endpoint of a cluster a request goes to.

mod edf;
mod endpoints;
mod group;
mod level;
mod load;
mod policy;
mod table;

use std::time::Duration;

use rand::Rng;

pub use self::endpoints::{Endpoint, Endpoints, Health, Locality, Priority};
use self::group::Choice;
use self::level::Level;
pub use self::load::Loads;
pub use self::policy::{BalancePolicy, Balancing, SlowStart};
pub use self::table::{RingSizes, TableSize};

/// The endpoints of a cluster, and whose turn it is.
///
/// Another one takes its place whenever an endpoint comes, goes, or changes its health.
#[derive(Debug, Clone)]
pub struct Balancer {
    policy: BalancePolicy,
    loads: Loads,
    levels: Vec<Level>,
    endpoints: Vec<Endpoint>,
}

/// What is known about a request that an endpoint is chosen for.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// The [hash](crate::hash_of) of the request, which consistent hashing uses; a random one with `None`.
    pub hash: Option<u64>,
    /// The time since anything that does not change.
    pub now: Duration,
    /// Whether another endpoint is to be chosen in place of one, by its key; it may be chosen all the same, see `attempts`.
    pub is_excluded: &'a dyn Fn(&str) -> bool,
    /// How often at most another endpoint is chosen in place of one that is excluded.
    pub attempts: u32,
    /// How many requests an endpoint has, by its key.
    pub active: &'a dyn Fn(&str) -> u64,
    /// What takes the place of the loads of priorities; consistent hashing does not ask.
    pub loads: Option<&'a Loads>,
}

/// An endpoint that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// The endpoint.
    pub endpoint: &'a Endpoint,
    /// The number of its priority.
    pub priority: usize,
}

impl Balancer {
    /// The endpoints as they are `now`, with turns that begin anywhere.
    #[must_use]
    pub fn new(balancing: &Balancing, endpoints: &Endpoints, now: Duration, random: &mut impl Rng) -> Self {
        let loads = Loads::new(endpoints, balancing.panic_threshold);
        let seed = random.next_u64();
        let mut all = Vec::new();
        let mut levels = Vec::new();
        let is_warming = balancing.policy.slow_start().is_some_and(|slow_start| {
            let endpoints = endpoints.priorities.iter().flat_map(Priority::endpoints);
            endpoints.into_iter().any(|endpoint| slow_start.is_warming(endpoint, now))
        });
        for (number, priority) in endpoints.priorities.iter().enumerate() {
            let first = all.len();
            all.extend(priority.endpoints().cloned());
            let overprovisioning = endpoints.overprovisioning;
            let plan = level::Plan { balancing, overprovisioning, panics: loads.panics(number), is_warming, seed, now };
            levels.push(Level::new(&plan, priority, first));
        }
        Self { policy: balancing.policy.clone(), loads, levels, endpoints: all }
    }

    /// The shares of the priorities.
    #[must_use]
    pub fn loads(&self) -> &Loads {
        &self.loads
    }

    /// Chooses an endpoint; `None` where no endpoint can be used.
    ///
    /// Where another one is chosen in place of one that is excluded, and none is left of the attempts, the last one counts.
    pub fn choose(&mut self, wanted: &Wanted<'_>, random: &mut impl Rng) -> Option<Chosen<'_>> {
        let hash = wanted.hash.unwrap_or_else(|| random.next_u64());
        let mut chosen = None;
        for attempt in 0..=wanted.attempts {
            let number = if self.policy.is_hashing() {
                self.choose_by_hash(hash, attempt)?
            } else {
                self.choose_once(wanted, random)?
            };
            chosen = Some(number);
            if !self.endpoints.get(number).is_some_and(|endpoint| (wanted.is_excluded)(&endpoint.key)) {
                break;
            }
        }
        let number = chosen?;
        let priority = self.levels.iter().position(|level| level.has(number))?;
        Some(Chosen { endpoint: self.endpoints.get(number)?, priority })
    }

    fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<usize> {
        let (priority, _) = self.loads.choose(hash)?;
        self.levels.get(priority)?.choose_by_hash(hash, attempt)
    }

    fn choose_once(&mut self, wanted: &Wanted<'_>, random: &mut impl Rng) -> Option<usize> {
        let number = random.next_u64();
        let (priority, is_healthy) = wanted.loads.unwrap_or(&self.loads).choose(number)?;
        let panics = self.loads.panics(priority);
        let group = self.levels.get_mut(priority)?.group(panics, is_healthy);
        group.choose(&Choice { policy: &self.policy, endpoints: &self.endpoints, wanted, number }, random)
    }
}

#[cfg(test)]
mod tests;
