//! What the control plane counts.

use std::time::Duration;

use telemetry::Registry;
use telemetry::metrics::{Counter, Counters, DurationFamilies, Durations, Gauge, Gauges};
use xds::server::Observer;

/// From what a small mesh takes to what somebody should look into, in seconds.
const BUCKETS: &[f64] = &[0.001, 0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0];

/// Counters of the certificate authority.
#[derive(Debug, Clone)]
pub(crate) struct CaMetrics {
    /// Requests.
    pub(crate) requests: Counter,
    /// Certificates.
    pub(crate) issued: Counter,
    /// Callers without a good token, or asking for what is not theirs.
    pub(crate) authentication_failures: Counter,
    /// When the root ends, in seconds since 1970.
    pub(crate) root_expiry: Gauge,
}

impl CaMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counter("citadel_server_csr_count", "Certificate requests received."),
            issued: registry.counter("citadel_server_success_cert_issuance_count", "Certificates issued."),
            authentication_failures: registry.counter(
                "citadel_server_authentication_failure_count",
                "Certificate requests whose caller was not authenticated or asked for an identity that is not its own.",
            ),
            root_expiry: registry.gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "When the signing certificate expires, in seconds since 1970.",
            ),
        }
    }
}

/// Counts what the discovery server does.
#[derive(Debug)]
pub(crate) struct XdsMetrics {
    connected: Gauges,
    pushes: Counters,
    push_time: DurationFamilies,
    convergence: Durations,
    rejects: Counters,
}

impl XdsMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            connected: registry.gauges("pilot_xds", "Connected discovery clients.", &["version"]),
            pushes: registry.counters("pilot_xds_pushes", "Discovery responses sent, by type.", &["type"]),
            push_time: registry.histograms(
                "pilot_xds_push_time",
                "How long it took to put a discovery response together, by type, in seconds.",
                BUCKETS,
                &["type"],
            ),
            convergence: registry.histogram(
                "pilot_proxy_convergence_time",
                "From a change until a client has processed all of it, in seconds.",
                BUCKETS,
            ),
            rejects: registry.counters(
                "pilot_total_xds_rejects",
                "Discovery responses of which a client refused something, by type.",
                &["type"],
            ),
        }
    }
}

impl Observer for XdsMetrics {
    fn pushed(&self, type_url: &str, _resource_bytes: usize, took: Duration) {
        self.pushes.with(&[short(type_url)]).increment();
        self.push_time.with(&[short(type_url)]).observe(took);
    }

    fn converged(&self, after: Duration) {
        self.convergence.observe(after);
    }

    fn rejected(&self, type_url: &str) {
        self.rejects.with(&[short(type_url)]).increment();
    }

    fn connected(&self, clients: usize) {
        let clients = i64::try_from(clients).unwrap_or(i64::MAX);
        self.connected.with(&[env!("CARGO_PKG_VERSION")]).set(clients);
    }
}

/// The customary short name; types that nobody serves share one, because a client chooses them.
fn short(type_url: &str) -> &'static str {
    match type_url {
        proto::ADDRESS_TYPE => "wds",
        proto::AUTHORIZATION_TYPE => "wads",
        _ => "other",
    }
}
