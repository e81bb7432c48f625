//! What the control plane counts.

use telemetry::Registry;
use telemetry::metrics::{Counter, Counters, Gauge, Gauges};
use xds::server::Observer;

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
    rejects: Counters,
}

impl XdsMetrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            connected: registry.gauges("pilot_xds", "Connected discovery clients.", &["version"]),
            pushes: registry.counters("pilot_xds_pushes", "Discovery responses sent, by type.", &["type"]),
            rejects: registry.counters(
                "pilot_total_xds_rejects",
                "Discovery responses of which a client refused something, by type.",
                &["type"],
            ),
        }
    }
}

impl Observer for XdsMetrics {
    fn pushed(&self, type_url: &str, _resource_bytes: usize) {
        self.pushes.with(&[short(type_url)]).increment();
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
