//! The agent's metrics and health over HTTP.

use std::net::{Ipv6Addr, SocketAddr};

use drain::Readiness;
use http::StatusCode;
use telemetry::Registry;
use telemetry::http::{Router, metrics, serve, text};
use telemetry::metrics::{Counters, Gauge};
use tokio::net::TcpListener;

/// What the agent counts.
#[derive(Clone)]
pub struct AgentMetrics {
    /// 1 while a ztunnel is connected.
    pub ztunnel_connected: Gauge,
    /// Steps that ended, by kind.
    pub reconcile_events: Counters,
    /// Pods whose rules were put back.
    pub repairs: Counters,
    /// The CNI plugin.
    pub plugin: PluginMetrics,
}

/// What the agent counts of the CNI plugin.
#[derive(Clone)]
pub struct PluginMetrics {
    /// Announcements of new pods, by status.
    pub requests: Counters,
    /// Attempts to install the plugin that wrote something or failed.
    pub installs: Counters,
    /// 1 while the plugin is installed.
    pub ready: Gauge,
}

impl AgentMetrics {
    /// Registers the families, under the names that dashboards know.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            ztunnel_connected: registry.gauge("ztunnel_connected", "Whether a ztunnel is connected to the node agent."),
            reconcile_events: registry.counters(
                "nodeagent_reconcile_events_total",
                "Steps that ended, by type: admit, capture, repair, release, forget, and each with _failed.",
                &["type"],
            ),
            repairs: registry.counters(
                "istio_cni_repair_pods_repaired_total",
                "Pods whose redirection rules were put back, by result.",
                &["type", "result"],
            ),
            plugin: PluginMetrics::new(registry),
        }
    }
}

impl PluginMetrics {
    /// Registers the families, under the names that dashboards know.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counters(
                "istio_cni_plugin_requests_total",
                "New pods that the CNI plugin announced, by the status of the answer.",
                &["response_code"],
            ),
            installs: registry.counters(
                "istio_cni_installs_total",
                "Installations of the CNI plugin that wrote something or failed, by result.",
                &["result"],
            ),
            ready: registry.gauge("istio_cni_install_ready", "Whether the CNI plugin is installed on the node."),
        }
    }
}

/// The value of a label that says how something went.
pub(crate) fn result_label(is_ok: bool) -> &'static str {
    if is_ok { "SUCCESS" } else { "FAILURE" }
}

/// Opens both ports and answers on them until `drain` starts.
///
/// # Errors
/// A port cannot be opened.
pub async fn observe(
    registry: Registry,
    readiness: Readiness,
    [monitoring, health]: [u16; 2],
    drain: drain::Watch,
) -> std::io::Result<()> {
    let metrics_router = Router::new().get("/metrics", move |request| {
        let response = metrics(&registry, &request);
        async move { response }
    });
    let ready = move |_request| {
        let pending = readiness.pending();
        async move {
            if pending.is_empty() {
                text(StatusCode::OK, "ready\n")
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready, pending: {}\n", pending.join(", ")))
            }
        }
    };
    let health_router =
        Router::new().get("/healthz", |_request| async { text(StatusCode::OK, "ok\n") }).get("/readyz", ready);
    let (metrics_port, health_port) = (bind(monitoring).await?, bind(health).await?);
    tokio::join!(
        serve(metrics_port, metrics_router, drain.draining()),
        serve(health_port, health_router, drain.draining()),
    );
    Ok(())
}

async fn bind(port: u16) -> std::io::Result<TcpListener> {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port);
    match TcpListener::bind(any).await {
        Ok(listener) => Ok(listener),
        // A node without IPv6 has only the other wildcard.
        Err(_no_ipv6) => TcpListener::bind((std::net::Ipv4Addr::UNSPECIFIED, port)).await,
    }
}
