//! How endpoints are chosen.

use std::time::Duration;

use super::{Endpoint, Health, RingSizes, TableSize, Wanted};

/// How the endpoints of a cluster are chosen, as Envoy's [`Cluster`] says it.
///
/// [`Cluster`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto
#[derive(Debug, Clone, PartialEq)]
pub struct Balancing {
    /// The policy.
    pub policy: BalancePolicy,
    /// Of how many percent of its endpoints a priority must be able to use, so as not to use all of them, whatever their
    /// health; zero for never, 50 unless told otherwise.
    pub panic_threshold: u32,
    /// Whether localities have shares of the requests.
    pub weighs_localities: bool,
}

/// A policy by which endpoints are chosen, as Envoy's [load balancers] do it.
///
/// [load balancers]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/load_balancers
#[derive(Debug, Clone, PartialEq)]
pub enum BalancePolicy {
    /// One after the other, those of greater weight more often.
    RoundRobin {
        /// How those that were healthy for a short time only are spared.
        slow_start: Option<SlowStart>,
    },
    /// That with the fewest requests of some random ones; where weights differ, one after the other by weight and number of
    /// requests.
    LeastRequest {
        /// Of how many; 2 unless told otherwise.
        choices: u32,
        /// How much the number of requests counts against the weight; 1 unless told otherwise, and instead of what makes no
        /// sense.
        active_bias: f64,
        /// How those that were healthy for a short time only are spared.
        slow_start: Option<SlowStart>,
    },
    /// Any, whatever its weight.
    Random,
    /// That to which the hash belongs on a ring.
    RingHash(RingSizes),
    /// That to which the hash belongs in a table of Maglev.
    Maglev(TableSize),
}

/// How endpoints get their requests bit by bit after they became healthy, as Envoy's [slow start] says it.
///
/// [slow start]: https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/slow_start
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SlowStart {
    /// For how long.
    pub window: Duration,
    /// How fast at the beginning: 1, unless told otherwise and instead of what makes no sense, for always as fast, more for
    /// faster.
    pub aggression: f64,
    /// What they get at least, in percent of their share; 10 unless told otherwise.
    pub min_weight_percent: f64,
}

impl Default for Balancing {
    fn default() -> Self {
        Self { policy: BalancePolicy::RoundRobin { slow_start: None }, panic_threshold: 50, weighs_localities: false }
    }
}

impl BalancePolicy {
    pub(super) fn is_hashing(&self) -> bool {
        matches!(self, Self::RingHash(_) | Self::Maglev(_))
    }

    /// Whether endpoints take turns by weight where weights differ.
    pub(super) fn is_weighted(&self) -> bool {
        matches!(self, Self::RoundRobin { .. } | Self::LeastRequest { .. })
    }

    pub(super) fn slow_start(&self) -> Option<&SlowStart> {
        match self {
            Self::RoundRobin { slow_start } | Self::LeastRequest { slow_start, .. } => slow_start.as_ref(),
            _ => None,
        }
    }

    /// The weight of an endpoint without its requests.
    pub(super) fn idle_weight(&self, endpoint: &Endpoint, now: Duration) -> f64 {
        let factor = self.slow_start().map_or(1.0, |slow_start| slow_start.factor(endpoint, now));
        f64::from(endpoint.weight.get()) * factor
    }

    /// The weight of an endpoint with its requests.
    pub(super) fn weight(&self, endpoint: &Endpoint, wanted: &Wanted<'_>) -> f64 {
        let weight = self.idle_weight(endpoint, wanted.now);
        let Self::LeastRequest { active_bias, .. } = self else {
            return weight;
        };
        let bias = if *active_bias >= 0.0 { *active_bias } else { 1.0 };
        weight / ((wanted.active)(&endpoint.key) as f64 + 1.0).powf(bias)
    }
}

impl SlowStart {
    /// Whether an endpoint is spared.
    pub(super) fn is_warming(&self, endpoint: &Endpoint, now: Duration) -> bool {
        let is_young = |since| now.saturating_sub(since) < self.window;
        endpoint.health == Health::Healthy && endpoint.healthy_since.is_some_and(is_young)
    }

    /// What an endpoint gets of its share.
    fn factor(&self, endpoint: &Endpoint, now: Duration) -> f64 {
        let Some(since) = endpoint.healthy_since.filter(|_| self.is_warming(endpoint, now)) else {
            return 1.0;
        };
        let aggression = if self.aggression > 0.0 { self.aggression } else { 1.0 };
        let elapsed = now.saturating_sub(since).max(Duration::from_millis(1));
        elapsed.div_duration_f64(self.window).powf(aggression.recip()).max(self.min_weight_percent / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_gets_more_the_longer_it_is_healthy() {
        let window = Duration::from_secs(100);
        let slow = |aggression| SlowStart { window, aggression, min_weight_percent: 10.0 };
        let endpoint = Endpoint { healthy_since: Some(Duration::from_secs(1000)), ..Endpoint::new("10.0.0.1:80") };
        let factor = |slow: SlowStart, seconds: u64| slow.factor(&endpoint, Duration::from_secs(1000 + seconds));
        let all = |slow: SlowStart| [0, 5, 25, 50, 99, 100, 200].map(|seconds| factor(slow, seconds));
        assert_eq!(all(slow(1.0)), [0.1, 0.1, 0.25, 0.5, 0.99, 1.0, 1.0]);
        assert_eq!(all(slow(0.0)), all(slow(1.0)));
        assert_eq!(all(slow(f64::NAN)), all(slow(1.0)));
        assert!((factor(slow(2.0), 25) - 0.5).abs() < 1e-9);
        let degraded = Endpoint { health: Health::Degraded, ..endpoint.clone() };
        assert_eq!(slow(1.0).factor(&degraded, Duration::from_secs(1000)), 1.0);
        assert_eq!(slow(1.0).factor(&Endpoint::new("10.0.0.1:80"), Duration::ZERO), 1.0);
    }

    #[test]
    fn requests_count_against_the_weight() {
        let of = |active_bias| BalancePolicy::LeastRequest { choices: 2, active_bias, slow_start: None };
        let wanted = Wanted {
            hash: None,
            now: Duration::ZERO,
            is_excluded: &|_| false,
            attempts: 0,
            active: &|_| 3,
            loads: None,
        };
        let weight = |policy: BalancePolicy| policy.weight(&Endpoint::new("10.0.0.1:80"), &wanted);
        assert_eq!([1.0, 2.0, 0.0, -1.0, f64::NAN].map(|bias| weight(of(bias))), [0.25, 0.0625, 1.0, 0.25, 0.25]);
        assert_eq!(weight(BalancePolicy::RoundRobin { slow_start: None }), 1.0);
    }
}
