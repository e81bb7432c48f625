//! What the node proxy counts about the TLS handshakes of tunnels.

use super::{Counter, Registry};
use crate::traffic::Reporter;

/// The family about handshakes; cheap to clone.
#[derive(Debug, Clone)]
pub struct HandshakeMetrics {
    source: Kinds,
    destination: Kinds,
}

/// The handshakes of one side.
#[derive(Debug, Clone)]
struct Kinds {
    full: Counter,
    resumed: Counter,
}

impl HandshakeMetrics {
    /// Registers the family.
    ///
    /// # Panics
    /// When called twice.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let help = "TLS handshakes of tunnels that succeeded, and whether they went on with an earlier session.";
        let counters = registry.counters("aquifer_tunnel_handshakes_total", help, &["reporter", "resumed"]);
        let kinds = |reporter: Reporter| Kinds {
            full: counters.with(&[reporter.text(), "false"]),
            resumed: counters.with(&[reporter.text(), "true"]),
        };
        Self { source: kinds(Reporter::Source), destination: kinds(Reporter::Destination) }
    }

    /// A handshake succeeded; `reporter` is the side that this proxy was at.
    pub fn succeeded(&self, reporter: Reporter, is_resumed: bool) {
        let kinds = if reporter == Reporter::Source { &self.source } else { &self.destination };
        if is_resumed { kinds.resumed.increment() } else { kinds.full.increment() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshakes_are_counted_by_side_and_kind() {
        let registry = Registry::new();
        let metrics = HandshakeMetrics::new(&registry);
        for is_resumed in [false, true, true] {
            metrics.succeeded(Reporter::Source, is_resumed);
        }
        metrics.succeeded(Reporter::Destination, true);
        let text = registry.text();
        for (reporter, resumed, count) in
            [("source", "false", 1), ("source", "true", 2), ("destination", "false", 0), ("destination", "true", 1)]
        {
            let line =
                format!("aquifer_tunnel_handshakes_total{{reporter=\"{reporter}\",resumed=\"{resumed}\"}} {count}\n");
            assert!(text.contains(&line), "{line} is not in {text}");
        }
    }
}
