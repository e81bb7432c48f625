//! The endpoints of a cluster.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The endpoints of a cluster, as Envoy's [`ClusterLoadAssignment`] says them.
///
/// [`ClusterLoadAssignment`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/endpoint/v3/endpoint.proto
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// The best ones first.
    pub priorities: Vec<Priority>,
    /// How much more than its share an endpoint can take, in percent; 140 unless told otherwise.
    pub overprovisioning: u32,
    /// Whether the health of a priority counts weights instead of endpoints.
    pub weighs_health: bool,
}

/// Endpoints that are equally good.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Priority {
    /// Where they are.
    pub localities: Vec<Locality>,
}

/// Endpoints at the same place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locality {
    /// The region; empty if unknown, like the others.
    pub region: Arc<str>,
    /// The zone of the region.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub sub_zone: Arc<str>,
    /// The share of the priority, where localities have shares; zero for none.
    pub weight: u32,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address, written as Envoy does: `10.0.0.1:80`, `[2001:db8::1]:80` or `envoy://listener/id`.
    pub key: Arc<str>,
    /// What stands for the endpoint in consistent hashing; its address with `None`.
    pub hash_key: Option<Arc<str>>,
    /// Its share of the requests.
    pub weight: NonZeroU32,
    /// Whether it can be used.
    pub health: Health,
    /// Since when, by the clock of [`Wanted::now`](crate::Wanted::now), it has been healthy; `None` for long.
    pub healthy_since: Option<Duration>,
    /// What subsets ask for.
    pub labels: BTreeMap<Box<str>, Box<str>>,
}

/// Whether an endpoint can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Healthy,
    /// It can, when there are too few healthy ones.
    Degraded,
    /// It cannot: it fails, it drains, or it is ejected.
    Unhealthy,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self { priorities: Vec::new(), overprovisioning: 140, weighs_health: false }
    }
}

impl Endpoints {
    /// The endpoints that have all of these labels, with priorities and localities as they are.
    #[must_use]
    pub fn subset(&self, labels: &BTreeMap<Box<str>, Box<str>>) -> Self {
        let mut subset = self.clone();
        for locality in subset.priorities.iter_mut().flat_map(|priority| &mut priority.localities) {
            locality.endpoints.retain(|endpoint| {
                labels.iter().all(|(name, value)| endpoint.labels.get(name).is_some_and(|own| own == value))
            });
        }
        subset
    }
}

impl Priority {
    /// All endpoints, wherever they are.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.localities.iter().flat_map(|locality| &locality.endpoints)
    }
}

impl Endpoint {
    /// A healthy endpoint with an address and nothing special.
    #[must_use]
    pub fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            hash_key: None,
            weight: NonZeroU32::MIN,
            health: Health::Healthy,
            healthy_since: None,
            labels: BTreeMap::new(),
        }
    }

    /// What stands for the endpoint in consistent hashing.
    pub(super) fn hash_key(&self) -> &str {
        self.hash_key.as_deref().unwrap_or(&self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subset_has_all_of_the_labels() {
        let labels = |pairs: &[(&str, &str)]| -> BTreeMap<Box<str>, Box<str>> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let endpoint = |key: &str, pairs: &[(&str, &str)]| Endpoint { labels: labels(pairs), ..Endpoint::new(key) };
        let endpoints = vec![
            endpoint("a", &[("version", "v1")]),
            endpoint("b", &[("version", "v2"), ("tier", "x")]),
            endpoint("c", &[("version", "v1"), ("tier", "x")]),
            endpoint("d", &[]),
        ];
        let zone = Locality { region: "r".into(), zone: "z".into(), sub_zone: "s".into(), weight: 3, endpoints };
        let all = Endpoints { priorities: vec![Priority { localities: vec![zone] }], ..Endpoints::default() };
        let keys = |subset: &Endpoints| -> Vec<_> {
            subset.priorities.iter().flat_map(Priority::endpoints).map(|endpoint| endpoint.key.to_string()).collect()
        };
        assert_eq!(keys(&all.subset(&labels(&[("version", "v1")]))), ["a", "c"]);
        assert_eq!(keys(&all.subset(&labels(&[("version", "v1"), ("tier", "x")]))), ["c"]);
        let none = all.subset(&labels(&[("version", "v3")]));
        assert_eq!(keys(&none), [""; 0]);
        assert_eq!(none.priorities[0].localities[0].weight, 3);
        assert_eq!(all.subset(&labels(&[])), all);
    }
}
