//! What the node proxy counts about name lookups of pods.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Counters, DurationFamilies, Registry};
use crate::traffic::shown;

const LABELS: [&str; 4] =
    ["request_query_type", "request_protocol", "source_canonical_service", "source_canonical_revision"];

/// Upper bounds in seconds: from a cache on the same node to a resolver that gave up.
const BUCKETS: [f64; 6] = [0.0005, 0.001, 0.01, 0.1, 1.0, 5.0];

/// The families about name lookups; cheap to clone.
#[derive(Debug, Clone)]
pub struct LookupMetrics {
    requests: Counters,
    forwarded: Counters,
    failures: Counters,
    durations: DurationFamilies,
    /// Label sets in use, to forget those of workloads that have left.
    known: Arc<Mutex<HashSet<LookupLabels>>>,
}

/// Who asked for what, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LookupLabels {
    /// The type of record, lower case; one of a bounded number.
    pub query_type: Arc<str>,
    /// `udp` or `tcp`.
    pub protocol: &'static str,
    /// The client's canonical service name; empty if unknown.
    pub service: Arc<str>,
    /// The client's canonical revision; empty if unknown.
    pub revision: Arc<str>,
}

impl LookupMetrics {
    /// Registers the families.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters("istio_dns_requests_total", "Name lookups of pods.", &LABELS),
            forwarded: registry.counters(
                "istio_dns_upstream_requests_total",
                "Name lookups that other servers were asked to answer.",
                &LABELS,
            ),
            failures: registry.counters(
                "istio_dns_upstream_failures_total",
                "Name lookups to which no other server gave an answer.",
                &LABELS,
            ),
            durations: registry.histograms(
                "istio_dns_upstream_request_duration_seconds",
                "How long other servers took to answer name lookups.",
                &BUCKETS,
                &LABELS,
            ),
            known: Arc::default(),
        }
    }

    /// A lookup came.
    pub fn requested(&self, labels: &LookupLabels) {
        let mut known = self.lock();
        if !known.contains(labels) {
            known.insert(labels.clone());
        }
        // Under the lock, so that a sweep does not come between.
        self.requests.with(&labels.values()).increment();
    }

    /// A lookup was forwarded and answered, or not, after this time.
    pub fn forwarded(&self, labels: &LookupLabels, took: Duration, is_answered: bool) {
        let known = self.lock();
        // A pod that left meanwhile is not brought back.
        if !known.contains(labels) {
            return;
        }
        self.forwarded.with(&labels.values()).increment();
        self.durations.with(&labels.values()).observe(took);
        if !is_answered {
            self.failures.with(&labels.values()).increment();
        }
    }

    /// Forgets the label sets of clients that are not live, by canonical service and revision.
    pub fn sweep(&self, is_live: impl Fn(&str, &str) -> bool) {
        self.lock().retain(|labels| {
            let stays = is_live(&labels.service, &labels.revision);
            if !stays {
                let values = labels.values();
                self.requests.remove(&values);
                self.forwarded.remove(&values);
                self.failures.remove(&values);
                self.durations.remove(&values);
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<LookupLabels>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LookupLabels {
    fn values(&self) -> [&str; 4] {
        [&self.query_type, self.protocol, shown(&self.service), shown(&self.revision)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(service: &str) -> LookupLabels {
        LookupLabels {
            query_type: Arc::from("aaaa"),
            protocol: "udp",
            service: Arc::from(service),
            revision: Arc::from(""),
        }
    }

    #[test]
    fn families_have_their_names_and_label_sets_end_with_their_workloads() {
        let registry = Registry::new();
        let metrics = LookupMetrics::new(&registry);
        for service in ["cart", "bank"] {
            metrics.requested(&labels(service));
            metrics.forwarded(&labels(service), Duration::from_millis(2), false);
        }
        let set = "{request_protocol=\"udp\",request_query_type=\"aaaa\",source_canonical_revision=\"unknown\",\
                   source_canonical_service=\"cart\"} 1";
        let text = registry.text();
        for name in [
            "istio_dns_requests_total",
            "istio_dns_upstream_requests_total",
            "istio_dns_upstream_failures_total",
            "istio_dns_upstream_request_duration_seconds_count",
        ] {
            assert!(text.contains(&format!("{name}{set}")), "{name}{set} is not in\n{text}");
        }
        metrics.sweep(|service, _revision| service == "bank");
        metrics.forwarded(&labels("cart"), Duration::from_millis(2), true);
        let text = registry.text();
        assert!(!text.contains("\"cart\"") && text.contains("\"bank\""), "{text}");
    }
}
