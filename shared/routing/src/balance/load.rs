//! How much of the requests each priority gets.

use super::{Endpoints, Health, Priority};

/// The shares of the priorities, in percent, as Envoy's [priority levels] and [panic threshold] say them.
///
/// Healthy and degraded endpoints of a priority have shares of their own; all of them together are 100.
///
/// [priority levels]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
/// [panic threshold]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/panic_threshold
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loads {
    availability: Vec<Pair>,
    healthy: Vec<u32>,
    degraded: Vec<u32>,
    panics: Vec<bool>,
}

/// How much of all requests the healthy and the degraded endpoints of a priority could take, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Pair {
    healthy: u32,
    degraded: u32,
}

impl Loads {
    /// The shares of the priorities, which have all of their endpoints used, whatever their health, where fewer than
    /// `panic_threshold` percent can be and the priorities cannot take everything together; zero for never.
    #[must_use]
    pub fn new(endpoints: &Endpoints, panic_threshold: u32) -> Self {
        let availability: Vec<_> = endpoints.priorities.iter().map(|priority| available(endpoints, priority)).collect();
        let is_enough = total(&availability) == 100;
        let panics: Vec<_> = endpoints
            .priorities
            .iter()
            .map(|priority| !is_enough && available_part(priority) < f64::from(panic_threshold.min(100)))
            .collect();
        let mut loads = Self { panics, ..Self::of(availability) };
        if !loads.panics.is_empty() && loads.panics.iter().all(|panics| *panics) {
            loads.spread_by_number(endpoints);
        }
        loads
    }

    /// The shares of healthy endpoints, by priority.
    #[must_use]
    pub fn healthy(&self) -> &[u32] {
        &self.healthy
    }

    /// The shares of degraded endpoints, by priority.
    #[must_use]
    pub fn degraded(&self) -> &[u32] {
        &self.degraded
    }

    /// Whether all endpoints of a priority are used, whatever their health.
    #[must_use]
    pub fn panics(&self, priority: usize) -> bool {
        self.panics.get(priority).copied().unwrap_or_default()
    }

    /// The shares if some priorities could take nothing; `None` if then nothing could be taken at all.
    pub(crate) fn without(&self, excluded: &[usize]) -> Option<Self> {
        let mut availability = self.availability.clone();
        for priority in excluded {
            if let Some(pair) = availability.get_mut(*priority) {
                *pair = Pair::default();
            }
        }
        (total(&availability) > 0).then(|| Self { panics: self.panics.clone(), ..Self::of(availability) })
    }

    /// The priority that a random number falls on, and whether it is for its healthy endpoints.
    pub(super) fn choose(&self, random: u64) -> Option<(usize, bool)> {
        let mut left = random % 100;
        let healthy = self.healthy.iter().enumerate().map(|(priority, share)| (priority, true, *share));
        let degraded = self.degraded.iter().enumerate().map(|(priority, share)| (priority, false, *share));
        for (priority, is_healthy, share) in healthy.chain(degraded) {
            match left.checked_sub(u64::from(share)) {
                Some(rest) => left = rest,
                None => return Some((priority, is_healthy)),
            }
        }
        None
    }

    /// The shares of priorities that can take so much.
    fn of(availability: Vec<Pair>) -> Self {
        let total = total(&availability);
        let mut left = 100;
        let mut take = |available: u32| {
            let taken = (available * 100).checked_div(total).unwrap_or_default().min(left);
            left -= taken;
            taken
        };
        // All healthy endpoints come before the first degraded one.
        let mut healthy: Vec<_> = availability.iter().map(|pair| take(pair.healthy)).collect();
        let mut degraded: Vec<_> = availability.iter().map(|pair| take(pair.degraded)).collect();
        // What is left is lost by rounding, or everything; the latter is for nobody, and is said to be for the first.
        let first_healthy = availability.iter().position(|pair| pair.healthy > 0);
        let first_degraded = availability.iter().position(|pair| pair.degraded > 0);
        let rest = match (first_healthy, first_degraded) {
            (None, Some(first)) => degraded.get_mut(first),
            (first, _) => healthy.get_mut(first.unwrap_or_default()),
        };
        if let Some(rest) = rest {
            *rest += left;
        }
        Self { panics: vec![false; availability.len()], availability, healthy, degraded }
    }

    /// Shares by how many endpoints there are, whatever their health.
    fn spread_by_number(&mut self, endpoints: &Endpoints) {
        let counts: Vec<_> = endpoints.priorities.iter().map(|priority| priority.endpoints().count()).collect();
        let all: usize = counts.iter().sum();
        let share = |count: usize| u32::try_from((100 * count).checked_div(all).unwrap_or_default()).unwrap_or(100);
        self.healthy = counts.iter().map(|count| share(*count)).collect();
        self.degraded = vec![0; counts.len()];
        let left = 100_u32.saturating_sub(self.healthy.iter().sum());
        let first = counts.iter().position(|count| *count > 0).unwrap_or_default();
        if let Some(first) = self.healthy.get_mut(first) {
            *first += left;
        }
    }
}

fn total(availability: &[Pair]) -> u32 {
    availability.iter().map(|pair| pair.healthy + pair.degraded).sum::<u32>().min(100)
}

fn available(endpoints: &Endpoints, priority: &Priority) -> Pair {
    let weight = |wanted: Option<Health>| -> u64 {
        let counted = priority.endpoints().filter(|endpoint| wanted.is_none_or(|wanted| endpoint.health == wanted));
        counted.map(|endpoint| if endpoints.weighs_health { u64::from(endpoint.weight.get()) } else { 1 }).sum()
    };
    let all = weight(None);
    let percent = |wanted| {
        let percent = (u64::from(endpoints.overprovisioning) * weight(Some(wanted))).checked_div(all);
        u32::try_from(percent.unwrap_or_default()).unwrap_or(u32::MAX).min(100)
    };
    Pair { healthy: percent(Health::Healthy), degraded: percent(Health::Degraded) }
}

/// How many of the endpoints can be used, in percent, without anything on top.
fn available_part(priority: &Priority) -> f64 {
    let all = priority.endpoints().count();
    let available = priority.endpoints().filter(|endpoint| endpoint.health != Health::Unhealthy).count();
    if all == 0 { 0.0 } else { 100.0 * available as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;
    use crate::{Endpoint, Locality};

    /// Priorities with so many healthy, degraded and unhealthy endpoints.
    fn endpoints(counts: &[(usize, usize, usize)]) -> Endpoints {
        let endpoint = |health| Endpoint { health, ..Endpoint::new("10.0.0.1:80") };
        let priorities = counts.iter().map(|(healthy, degraded, unhealthy)| {
            let mut endpoints = vec![endpoint(Health::Healthy); *healthy];
            endpoints.extend(vec![endpoint(Health::Degraded); *degraded]);
            endpoints.extend(vec![endpoint(Health::Unhealthy); *unhealthy]);
            Priority { localities: vec![Locality { endpoints, ..Locality::default() }] }
        });
        Endpoints { priorities: priorities.collect(), ..Endpoints::default() }
    }

    fn shares(counts: &[(usize, usize, usize)], panic_threshold: u32) -> (Vec<u32>, Vec<u32>) {
        let loads = Loads::new(&endpoints(counts), panic_threshold);
        (loads.healthy().to_vec(), loads.degraded().to_vec())
    }

    #[test]
    fn a_priority_gets_what_the_better_ones_cannot_take() {
        assert_eq!(shares(&[(10, 0, 0), (10, 0, 0)], 50).0, [100, 0]);
        assert_eq!(shares(&[(72, 0, 28), (100, 0, 0)], 50).0, [100, 0]);
        assert_eq!(shares(&[(71, 0, 29), (100, 0, 0)], 50).0, [99, 1]);
        assert_eq!(shares(&[(50, 0, 50), (100, 0, 0)], 50).0, [70, 30]);
        assert_eq!(shares(&[(25, 0, 75), (25, 0, 75), (100, 0, 0)], 50).0, [35, 35, 30]);
        assert_eq!(shares(&[(0, 0, 10), (10, 0, 0)], 50).0, [0, 100]);
        assert_eq!(shares(&[(0, 0, 0), (10, 0, 0)], 50).0, [0, 100]);
    }

    #[test]
    fn degraded_endpoints_get_what_healthy_ones_cannot_take() {
        assert_eq!(shares(&[(50, 50, 0)], 50), (vec![70], vec![30]));
        assert_eq!(shares(&[(0, 10, 0)], 50), (vec![0], vec![100]));
        assert_eq!(shares(&[(0, 100, 0), (50, 0, 50)], 50), (vec![0, 70], vec![30, 0]));
    }

    #[test]
    fn too_little_is_shared_in_proportion() {
        assert_eq!(shares(&[(20, 0, 80), (10, 0, 90)], 0).0, [67, 33]);
        assert_eq!(shares(&[(10, 20, 70), (20, 10, 70), (10, 0, 90)], 0), (vec![16, 28, 14], vec![28, 14, 0]));
    }

    #[test]
    fn weights_count_where_they_should() {
        let mut weighted = endpoints(&[(1, 0, 1), (1, 0, 0)]);
        weighted.priorities[0].localities[0].endpoints[1].weight = NonZeroU32::new(3).unwrap();
        assert_eq!(Loads::new(&weighted, 0).healthy(), [70, 30]);
        weighted.weighs_health = true;
        assert_eq!(Loads::new(&weighted, 0).healthy(), [35, 65]);
        weighted.overprovisioning = 200;
        assert_eq!(Loads::new(&weighted, 0).healthy(), [50, 50]);
    }

    #[test]
    fn a_priority_panics_where_there_is_not_enough_of_anything() {
        let panics = |counts: &[(usize, usize, usize)], threshold| {
            let loads = Loads::new(&endpoints(counts), threshold);
            (0..counts.len()).map(|priority| loads.panics(priority)).collect::<Vec<_>>()
        };
        assert_eq!(panics(&[(4, 0, 6), (4, 0, 6)], 50), [false, false]);
        assert_eq!(panics(&[(1, 0, 9), (3, 3, 4)], 50), [true, false]);
        assert_eq!(panics(&[(1, 0, 9)], 0), [false]);
        assert_eq!(panics(&[(0, 0, 10)], 0), [false]);
        assert!(!Loads::default().panics(0));
    }

    #[test]
    fn numbers_count_where_everything_panics() {
        assert_eq!(shares(&[(0, 0, 1), (0, 0, 3)], 50).0, [25, 75]);
        assert_eq!(shares(&[(0, 0, 1), (0, 0, 2)], 50).0, [34, 66]);
        assert_eq!(shares(&[(0, 0, 0), (0, 0, 3), (0, 0, 0)], 50).0, [0, 100, 0]);
        assert_eq!(shares(&[(0, 0, 0), (0, 0, 0)], 50).0, [100, 0]);
        assert_eq!(shares(&[(0, 0, 1), (0, 0, 3)], 0).0, [100, 0]);
    }

    proptest! {
        #[test]
        fn shares_are_a_hundred_percent_and_each_is_chosen_as_often(
            counts in prop::collection::vec((0usize..5, 0usize..5, 0usize..5), 1..5),
            threshold in prop::sample::select(vec![0u32, 50, 100]),
        ) {
            let loads = Loads::new(&endpoints(&counts), threshold);
            let (healthy, degraded) = (loads.healthy(), loads.degraded());
            prop_assert_eq!(healthy.iter().chain(degraded).sum::<u32>(), 100);
            let chosen: Vec<_> = (0..100).map(|random| loads.choose(random).unwrap()).collect();
            for priority in 0..counts.len() {
                let times = |is_healthy| chosen.iter().filter(|one| **one == (priority, is_healthy)).count();
                let shares = [healthy[priority], degraded[priority]].map(|share| share as usize);
                prop_assert_eq!([times(true), times(false)], shares);
            }
        }

        #[test]
        fn a_priority_without_use_gets_nothing_while_there_are_others(
            counts in prop::collection::vec((0usize..5, 0usize..5, 0usize..5), 1..5),
        ) {
            let loads = Loads::new(&endpoints(&counts), 0);
            if counts.iter().any(|(healthy, degraded, _)| healthy + degraded > 0) {
                for (priority, (healthy, degraded, _)) in counts.iter().enumerate() {
                    prop_assert!(loads.healthy()[priority] == 0 || *healthy > 0);
                    prop_assert!(loads.degraded()[priority] == 0 || *degraded > 0);
                }
            }
        }
    }
}
