//! What an operator can look at: the rules in a pod, ztunnel's admin, metrics and readiness ports.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::lab::{Lab, Place, shop};
use crate::support::within;

const PODS: &str = include_str!("../fixtures/shop.yaml");

/// The labels of the traffic metrics.
const LABELS: [&str; 27] = [
    "reporter",
    "source_workload",
    "source_canonical_service",
    "source_canonical_revision",
    "source_workload_namespace",
    "source_principal",
    "source_app",
    "source_version",
    "source_cluster",
    "destination_service",
    "destination_service_namespace",
    "destination_service_name",
    "destination_workload",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_workload_namespace",
    "destination_principal",
    "destination_app",
    "destination_version",
    "destination_cluster",
    "request_protocol",
    "response_flags",
    "connection_security_policy",
    "source_region",
    "source_zone",
    "destination_region",
    "destination_zone",
];

#[tokio::test]
async fn rules_state_metrics_and_readiness_can_be_read() {
    let Some(lab) = Lab::start(&["curl", "nft"]).await else { return };
    lab.open_shop(PODS).await;
    assert_eq!(lab.must_exec(shop("cart"), &["nft", "list", "ruleset"]).await, "", "no rule before");
    lab.capture().await;
    lab.is_encrypted("frontend", "cart", "node-2").await;
    rules(&lab).await;
    state(&lab).await;
    metrics(&lab).await;
    let ready = lab.must_exec(Place::Node("node-2"), &["curl", "-sS", "-i", "http://127.0.0.1:15021/healthz/ready"]);
    assert!(ready.await.starts_with("HTTP/1.1 200"));
}

async fn rules(lab: &Lab) {
    let rules = lab.must_exec(shop("cart"), &["nft", "list", "ruleset"]).await;
    let tables: Vec<&str> = rules.lines().filter(|line| line.starts_with("table ")).collect();
    assert_eq!(tables, ["table inet aquifer {"], "{rules}");
    let redirects: Vec<&str> = rules.lines().filter(|line| line.contains("redirect to")).collect();
    assert!(redirects.iter().any(|line| line.contains(":15001") && line.contains("outgoing connections")), "{rules}");
    assert!(redirects.iter().any(|line| line.contains(":15006") && line.contains("incoming plaintext")), "{rules}");
    for line in rules.lines().filter(|line| line.contains(" counter ")) {
        assert!(line.contains(" comment \""), "a rule that does not say what it is for: {line}");
    }
    for line in redirects {
        // A name lookup over UDP has no first packet; conntrack knows whether it is one.
        assert!(line.contains("tcp flags") || line.contains("udp dport 53"), "only a first packet: {line}");
    }
}

async fn state(lab: &Lab) {
    let dump = ["curl", "-sS", "--max-time", "10", "http://127.0.0.1:15000/config_dump"];
    let dump: Value = serde_json::from_str(&lab.must_exec(Place::Node("node-2"), &dump).await).unwrap();
    for key in ["workloads", "services", "policies", "certificates", "version", "config", "workloadState"] {
        assert!(!dump[key].is_null(), "no {key} in {dump}");
    }
    let workloads = dump["workloads"].as_array().unwrap();
    let cart = workloads.iter().find(|workload| workload["name"] == "cart").expect("cart is known");
    assert_eq!((&cart["protocol"], &cart["node"]), (&"HBONE".into(), &"node-2".into()), "{cart}");
    assert_eq!(cart["uid"], "Kubernetes//Pod/shop/cart");
    let services = dump["services"].as_array().unwrap();
    assert!(services.iter().any(|service| service["hostname"] == "cart.shop.svc.cluster.local"), "{dump}");
    let certificates = dump["certificates"].as_array().unwrap();
    let identity = "spiffe://cluster.local/ns/shop/sa/cart";
    assert!(certificates.iter().any(|certificate| certificate["identity"] == identity), "{certificates:?}");
    assert!(!dump.to_string().contains("PRIVATE KEY"));
    // The admin port is for the node alone.
    let outside = lab.curl(shop("frontend"), "http://172.30.0.12:15000/config_dump").await;
    assert!(outside.is_err(), "{outside:?}");
}

async fn metrics(lab: &Lab) {
    let (line, _) = within(std::time::Duration::from_secs(5), "the connection is counted", async || {
        let metrics = lab.curl(Place::Node("node-1"), "http://172.30.0.12:15020/metrics").await.unwrap();
        let is_it = |line: &&str| {
            line.starts_with("istio_tcp_connections_opened_total{")
                && line.contains("source_workload=\"frontend\"")
                && line.contains("destination_workload=\"cart\"")
        };
        metrics.lines().find(is_it).map(str::to_owned)
    })
    .await;
    let labels = line.split_once('{').unwrap().1.split_once('}').unwrap().0;
    let names: Vec<&str> = labels.split("\",").map(|pair| pair.split_once('=').unwrap().0).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>(), LABELS.iter().collect::<BTreeSet<_>>(), "{line}");
    for part in [
        "reporter=\"destination\"",
        "connection_security_policy=\"mutual_tls\"",
        "source_principal=\"spiffe://cluster.local/ns/shop/sa/frontend\"",
        "destination_service=\"cart.shop.svc.cluster.local\"",
        "request_protocol=\"tcp\"",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
}
