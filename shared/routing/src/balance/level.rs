//! The endpoints of one priority, in the groups that are chosen from.

use std::ops::Range;
use std::time::Duration;

use super::edf::Edf;
use super::group::Group;
use super::table::{Table, Weighed};
use super::{Balancing, Endpoint, Health, Locality, Priority};

/// The endpoints of one priority.
#[derive(Debug, Clone)]
pub(super) struct Level {
    numbers: Range<usize>,
    all: Group,
    healthy: Part,
    degraded: Part,
    table: Option<Table>,
}

/// What a level is made for.
pub(super) struct Plan<'a> {
    pub(super) balancing: &'a Balancing,
    pub(super) overprovisioning: u32,
    /// Whether all endpoints are used, whatever their health.
    pub(super) panics: bool,
    /// Whether some endpoint of the cluster is spared.
    pub(super) is_warming: bool,
    pub(super) seed: u64,
    pub(super) now: Duration,
}

/// The endpoints of one health.
#[derive(Debug, Clone)]
struct Part {
    all: Group,
    localities: Vec<(f64, Group)>,
    /// The order in which localities take turns.
    turns: Edf,
}

/// An endpoint with its number.
type Numbered<'a> = (usize, &'a Endpoint);

impl Level {
    /// The endpoints of a priority, which are numbered from `first` on.
    pub(super) fn new(plan: &Plan<'_>, priority: &Priority, first: usize) -> Self {
        let mut next = first;
        let localities = priority.localities.iter().map(|locality| {
            let start = next;
            next += locality.endpoints.len();
            (locality, (start..next).zip(&locality.endpoints).collect())
        });
        let localities: Vec<(&Locality, Vec<Numbered<'_>>)> = localities.collect();
        let policy = &plan.balancing.policy;
        if policy.is_hashing() {
            let weighed = weighed(plan, &localities);
            return Self { numbers: first..next, table: Table::new(policy, &weighed), ..Self::empty() };
        }
        let all = localities.iter().flat_map(|(_, endpoints)| endpoints.iter().copied());
        Self {
            numbers: first..next,
            all: plan.group(all.collect()),
            healthy: Part::new(plan, &localities, Health::Healthy),
            degraded: Part::new(plan, &localities, Health::Degraded),
            table: None,
        }
    }

    /// Whether an endpoint is one of these.
    pub(super) fn has(&self, number: usize) -> bool {
        self.numbers.contains(&number)
    }

    pub(super) fn choose_by_hash(&self, hash: u64, attempt: u32) -> Option<usize> {
        self.table.as_ref()?.choose(hash, attempt)
    }

    /// The endpoints that are to be chosen from.
    pub(super) fn group(&mut self, panics: bool, is_healthy: bool) -> &mut Group {
        if panics {
            return &mut self.all;
        }
        let part = if is_healthy { &mut self.healthy } else { &mut self.degraded };
        let localities = &mut part.localities;
        let turn = part.turns.take(|locality| localities.get(locality).map_or(1.0, |(weight, _)| *weight));
        turn.and_then(|turn| localities.get_mut(turn)).map_or(&mut part.all, |(_, group)| group)
    }

    fn empty() -> Self {
        let group = Group::new(Vec::new(), None, 0);
        let part = Part { all: group.clone(), localities: Vec::new(), turns: Edf::default() };
        Self { numbers: 0..0, all: group, healthy: part.clone(), degraded: part, table: None }
    }
}

impl Part {
    fn new(plan: &Plan<'_>, localities: &[(&Locality, Vec<Numbered<'_>>)], health: Health) -> Self {
        let of_health = |endpoints: &[Numbered<'_>]| plan.group(with_health(endpoints, health));
        let all: Vec<_> = localities.iter().flat_map(|(_, endpoints)| endpoints.iter().copied()).collect();
        let weighed = localities.iter().filter(|_| plan.balancing.weighs_localities);
        let weighed = weighed.map(|(locality, endpoints)| {
            // A locality takes its share as long as what is left of it can.
            let left = with_health(endpoints, health).len() as f64 / endpoints.len().max(1) as f64;
            let taken = (f64::from(plan.overprovisioning) / 100.0 * left).min(1.0);
            (f64::from(locality.weight) * taken, of_health(endpoints))
        });
        let weighed: Vec<_> = weighed.filter(|(weight, _)| *weight > 0.0).collect();
        let weights: Vec<_> = weighed.iter().map(|(weight, _)| *weight).collect();
        Self { all: of_health(&all), turns: Edf::new(&weights, plan.seed), localities: weighed }
    }
}

impl Plan<'_> {
    fn group(&self, endpoints: Vec<Numbered<'_>>) -> Group {
        let policy = &self.balancing.policy;
        let mut all = endpoints.iter().map(|(_, endpoint)| endpoint.weight);
        let first = all.next();
        let differ = all.any(|weight| Some(weight) != first);
        let weights: Option<Vec<_>> = (policy.is_weighted() && (differ || self.is_warming))
            .then(|| endpoints.iter().map(|(_, endpoint)| policy.idle_weight(endpoint, self.now)).collect());
        Group::new(endpoints.iter().map(|(number, _)| *number).collect(), weights.as_deref(), self.seed)
    }
}

fn with_health<'a>(endpoints: &[Numbered<'a>], health: Health) -> Vec<Numbered<'a>> {
    endpoints.iter().copied().filter(|(_, endpoint)| endpoint.health == health).collect()
}

/// The endpoints for consistent hashing with their parts of all requests; degraded ones get none.
fn weighed<'a>(plan: &Plan<'_>, localities: &[(&Locality, Vec<Numbered<'a>>)]) -> Vec<Weighed<'a>> {
    let used = |endpoints: &[Numbered<'a>]| {
        if plan.panics { endpoints.to_vec() } else { with_health(endpoints, Health::Healthy) }
    };
    if !plan.balancing.weighs_localities {
        let all: Vec<_> = localities.iter().flat_map(|(_, endpoints)| endpoints.iter().copied()).collect();
        return parts(&used(&all), 1.0);
    }
    let all: u64 = localities.iter().map(|(locality, _)| u64::from(locality.weight)).sum();
    let mut weighty: Vec<_> = localities.iter().filter(|(locality, _)| locality.weight > 0).collect();
    // A ring depends on the order, which is that of the names.
    weighty.sort_by_key(|(locality, _)| (&locality.region, &locality.zone, &locality.sub_zone));
    let parts =
        |(locality, endpoints): &(&Locality, Vec<_>)| parts(&used(endpoints), f64::from(locality.weight) / all as f64);
    weighty.into_iter().flat_map(parts).collect()
}

/// Endpoints that share a part of all requests by weight.
fn parts<'a>(endpoints: &[Numbered<'a>], whole: f64) -> Vec<Weighed<'a>> {
    let all: u64 = endpoints.iter().map(|(_, endpoint)| u64::from(endpoint.weight.get())).sum();
    let part = |endpoint: &Endpoint| f64::from(endpoint.weight.get()) * whole / all as f64;
    endpoints.iter().map(|(number, endpoint)| Weighed { member: *number, endpoint, part: part(endpoint) }).collect()
}
