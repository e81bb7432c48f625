//! What the node proxy counts about names that it resolves itself, because an endpoint has no address.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Counters, Registry};
use crate::traffic::{SOURCE, WorkloadLabels, shown};

/// The family about names that were resolved on demand.
#[derive(Debug)]
pub struct NameMetrics {
    resolved: Counters,
    /// Label sets in use, to forget those of workloads that have left.
    known: Mutex<HashSet<(WorkloadLabels, Arc<str>)>>,
}

impl NameMetrics {
    /// Registers the family.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let help = "Connections for which the host name of an endpoint was resolved.";
        let labels = [&SOURCE[..], &["hostname"]].concat();
        Self { resolved: registry.counters("istio_on_demand_dns_total", help, &labels), known: Mutex::default() }
    }

    /// A connection of this workload needed the name of an endpoint resolved; names come from discovery.
    pub fn resolved(&self, source: &WorkloadLabels, hostname: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert((source.clone(), Arc::from(hostname)));
        with_values(source, hostname, |values| self.resolved.with(values).increment());
    }

    /// Forgets the label sets of workloads that are not live, by workload and namespace.
    pub fn sweep(&self, is_live: impl Fn(&str, &str) -> bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(source, hostname)| {
            let stays = is_live(&source.workload, &source.namespace);
            if !stays {
                with_values(source, hostname, |values| self.resolved.remove(values));
            }
            stays
        });
    }
}

fn with_values(source: &WorkloadLabels, hostname: &str, act: impl FnOnce(&[&str])) {
    let source = source.values();
    let values: Vec<&str> = source.iter().map(|value| &**value).chain([hostname]).map(shown).collect();
    act(&values);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_by_who_needed_them_until_that_workload_leaves() {
        let registry = Registry::new();
        let metrics = NameMetrics::new(&registry);
        let source = |name: &str| WorkloadLabels { workload: Arc::from(name), ..WorkloadLabels::default() };
        metrics.resolved(&source("cart"), "db.example");
        metrics.resolved(&source("cart"), "db.example");
        metrics.resolved(&source("bank"), "db.example");
        let text = registry.text();
        let line = text.lines().find(|line| line.contains("source_workload=\"cart\"")).unwrap();
        assert!(line.starts_with("istio_on_demand_dns_total{") && line.ends_with(" 2"), "{line}");
        assert!(line.contains("hostname=\"db.example\"") && line.contains("source_app=\"unknown\""), "{line}");
        metrics.sweep(|workload, _namespace| workload == "bank");
        let text = registry.text();
        assert!(!text.contains("\"cart\"") && text.contains("\"bank\""), "{text}");
    }
}
