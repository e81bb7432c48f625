//! What is the same in all modes, and what is not: said with every result.

use crate::envoy::CONCURRENCY;
use crate::machine::Ground;
use crate::settings::Settings;

/// The lines of a report that say so.
#[must_use]
pub fn of(settings: &Settings, ground: &Ground) -> Vec<String> {
    let Settings { rounds, duration, payload, request, .. } = settings;
    let order: Vec<&str> = settings.modes.iter().map(|mode| mode.name()).collect();
    let what = if *request == 0 { "GET".to_owned() } else { format!("{request} bytes") };
    let (place, mesh) = match ground {
        Ground::Lab(_) => (
            "lab of two nodes on this machine; load, server and proxies share its processors".to_owned(),
            "TLS 1.3 with AES-128-GCM first and X25519MLKEM768; access log and metrics on, logs collected by the lab",
        ),
        Ground::Cluster(cluster) => {
            let names: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
            let names = names.join(", servers on ");
            (
                format!("a cluster: clients on {names}; whatever else runs there shares processors and network"),
                "the ambient mesh is configured as the cluster has it",
            )
        }
    };
    let mut lines = vec![
        format!("{place}; {what} answered with {payload} bytes"),
        "load open-loop at the fixed rate: the schedule is fixed in advance, latency counts from the intended send time"
            .to_owned(),
        format!("{rounds} rounds interleaved, {} ms each: {}", duration.as_millis(), order.join(", ")),
        format!("the same in all modes: client, server, one thread each; kept connections; {mesh}"),
        "clients dial the server's pod, ambient-l7 the Service in front of it, sidecars their Envoy on loopback"
            .to_owned(),
    ];
    for mode in settings.modes.iter().filter(|mode| !mode.proxy_settings().is_empty()) {
        let told: Vec<String> = mode.proxy_settings().iter().map(|(name, value)| format!("{name}={value}")).collect();
        lines.push(format!("{mode}: two more nodes of the lab, whose ztunnels have {}", told.join(" and ")));
    }
    lines
}

/// The same for the Envoys.
#[must_use]
pub fn of_envoy(version: &str) -> String {
    format!(
        "Envoy {version}: {CONCURRENCY} workers each, no circuit-breaker limits, none of Istio's filters: leaner than a \
         real sidecar; it logs each request where ztunnel logs each connection"
    )
}
