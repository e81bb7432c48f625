//! What the node proxy counts about peers whose certificates are revoked.

use super::{Counters, Registry};
use crate::traffic::Reporter;

/// The family about revoked certificates; cheap to clone.
#[derive(Debug, Clone)]
pub struct RevocationMetrics(Counters);

impl RevocationMetrics {
    /// Registers the family.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let help = "Connections refused or closed because the peer's certificate is revoked.";
        Self(registry.counters("istio_crl_policy_rejections_total", help, &["reporter"]))
    }

    /// A connection was refused or closed; `reporter` is the side that this proxy was at.
    pub fn rejected(&self, reporter: Reporter) {
        self.0.with(&[reporter.text()]).increment();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_counted_by_side() {
        let registry = Registry::new();
        let metrics = RevocationMetrics::new(&registry);
        metrics.rejected(Reporter::Source);
        metrics.rejected(Reporter::Destination);
        metrics.rejected(Reporter::Destination);
        let text = registry.text();
        assert!(text.contains("istio_crl_policy_rejections_total{reporter=\"source\"} 1"), "{text}");
        assert!(text.contains("istio_crl_policy_rejections_total{reporter=\"destination\"} 2"), "{text}");
    }
}
