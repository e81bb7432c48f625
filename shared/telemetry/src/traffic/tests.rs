//! What a scrape shows of connections.

use std::sync::atomic::AtomicU64;

use super::*;

#[derive(Default)]
struct Count(AtomicU64, AtomicU64);

impl ByteCount for Count {
    fn to_upstream(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn to_downstream(&self) -> u64 {
        self.1.load(Ordering::Relaxed)
    }
}

fn workload(name: &str) -> WorkloadLabels {
    WorkloadLabels {
        workload: Arc::from(name),
        canonical_service: Arc::from(name),
        canonical_revision: Arc::from("v1"),
        namespace: Arc::from("shop"),
        principal: format!("spiffe://cluster.local/ns/shop/sa/{name}").parse().ok(),
        app: Arc::from(name),
        version: Arc::from("v1"),
        cluster: Arc::from("Kubernetes"),
        region: Arc::from("r1"),
        zone: Arc::default(),
    }
}

fn labels(metrics: &TrafficMetrics, reporter: Reporter) -> ConnectionLabels {
    ConnectionLabels {
        reporter,
        source: metrics.party(workload("frontend")),
        destination: metrics.party(workload("cart")),
        service: ServiceLabels {
            host: Arc::from("cart.shop.svc.cluster.local"),
            name: Arc::from("cart"),
            namespace: Arc::from("shop"),
        },
        security: Security::MutualTls,
    }
}

fn value(registry: &Registry, name: &str, part: &str) -> Option<String> {
    let text = registry.text();
    let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")) && line.contains(part))?;
    Some(line.rsplit_once(' ').unwrap().1.to_owned())
}

#[test]
fn labels_come_in_the_documented_order() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    let _open = metrics.opened(labels(&metrics, Reporter::Destination), Arc::new(Count::default()));
    let text = registry.text();
    let line = text.lines().find(|line| line.starts_with("istio_tcp_connections_opened_total")).unwrap();
    assert_eq!(
        line,
        "istio_tcp_connections_opened_total{reporter=\"destination\",source_workload=\"frontend\",\
         source_canonical_service=\"frontend\",source_canonical_revision=\"v1\",source_workload_namespace=\"shop\",\
         source_principal=\"spiffe://cluster.local/ns/shop/sa/frontend\",source_app=\"frontend\",\
         source_version=\"v1\",source_cluster=\"Kubernetes\",\
         destination_service=\"cart.shop.svc.cluster.local\",destination_service_namespace=\"shop\",\
         destination_service_name=\"cart\",destination_workload=\"cart\",destination_canonical_service=\"cart\",\
         destination_canonical_revision=\"v1\",destination_workload_namespace=\"shop\",\
         destination_principal=\"spiffe://cluster.local/ns/shop/sa/cart\",destination_app=\"cart\",\
         destination_version=\"v1\",destination_cluster=\"Kubernetes\",request_protocol=\"tcp\",response_flags=\"-\",\
         connection_security_policy=\"mutual_tls\",source_region=\"r1\",source_zone=\"unknown\",\
         destination_region=\"r1\",destination_zone=\"unknown\"} 1"
    );
}

#[test]
fn an_unknown_pair_has_no_locality() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    let unknown = metrics.party(WorkloadLabels::default());
    let labels = ConnectionLabels {
        source: unknown.clone(),
        destination: unknown,
        service: ServiceLabels::default(),
        security: Security::Unknown,
        ..labels(&metrics, Reporter::Source)
    };
    let _open = metrics.opened(labels, Arc::new(Count::default()));
    let text = registry.text();
    let line = text.lines().find(|line| line.starts_with("istio_tcp_connections_opened_total")).unwrap();
    assert!(line.contains("source_workload=\"unknown\"") && line.contains("destination_service=\"unknown\""));
    assert!(line.ends_with("connection_security_policy=\"unknown\"} 1"), "{line}");
}

#[test]
fn bytes_are_visible_while_the_connection_lives_and_stay_after_it() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    let bytes = Arc::new(Count::default());
    let open = metrics.opened(labels(&metrics, Reporter::Source), Arc::clone(&bytes) as Arc<dyn ByteCount>);
    bytes.0.store(10, Ordering::Relaxed);
    bytes.1.store(3, Ordering::Relaxed);
    assert_eq!(value(&registry, "istio_tcp_received_bytes_total", "source").unwrap(), "10");
    assert_eq!(value(&registry, "istio_tcp_sent_bytes_total", "source").unwrap(), "3");
    assert_eq!(value(&registry, "istio_tcp_sockets_open", "reporter=\"source\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_closed_total", ""), None);
    bytes.0.store(11, Ordering::Relaxed);
    open.close(ResponseFlag::None, false);
    assert_eq!(value(&registry, "istio_tcp_received_bytes_total", "source").unwrap(), "11");
    assert_eq!(value(&registry, "istio_tcp_sockets_open", "reporter=\"source\"").unwrap(), "0");
    assert_eq!(value(&registry, "istio_tcp_connections_closed_total", "response_flags=\"-\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_failed_total", ""), None);
}

#[test]
fn a_failed_connection_closes_under_its_flag() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    let open = metrics.opened(labels(&metrics, Reporter::Destination), Arc::new(Count::default()));
    open.close(ResponseFlag::Deny, true);
    assert_eq!(value(&registry, "istio_tcp_connections_opened_total", "response_flags=\"-\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_closed_total", "response_flags=\"DENY\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_failed_total", "response_flags=\"DENY\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_closed_total", "response_flags=\"-\""), None);
}

#[test]
fn a_connection_whose_task_was_dropped_is_closed_and_not_failed() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    drop(metrics.opened(labels(&metrics, Reporter::Source), Arc::new(Count::default())));
    assert_eq!(value(&registry, "istio_tcp_connections_closed_total", "response_flags=\"-\"").unwrap(), "1");
    assert_eq!(value(&registry, "istio_tcp_connections_failed_total", ""), None);
    assert_eq!(value(&registry, "istio_tcp_sockets_open", "reporter=\"source\"").unwrap(), "0");
}

#[test]
fn equal_workloads_share_a_label_set() {
    let metrics = TrafficMetrics::new(&Registry::new());
    let one = metrics.opened(labels(&metrics, Reporter::Source), Arc::new(Count::default()));
    let two = metrics.opened(labels(&metrics, Reporter::Source), Arc::new(Count::default()));
    assert_eq!(metrics.series_count(), 1);
    drop((one, two));
}

#[test]
fn label_sets_leave_with_their_workloads_but_not_under_a_live_connection() {
    let metrics = TrafficMetrics::new(&Registry::new());
    let open = metrics.opened(labels(&metrics, Reporter::Source), Arc::new(Count::default()));
    metrics.sweep(|party| &*party.labels().workload != "cart");
    assert_eq!(metrics.series_count(), 1, "a live connection keeps its label set");
    drop(open);
    metrics.sweep(|_| true);
    assert_eq!(metrics.series_count(), 1, "live workloads keep theirs");
    metrics.sweep(|party| &*party.labels().workload != "cart");
    assert_eq!(metrics.series_count(), 0);
    assert_eq!(metrics.store.lock().parties.len(), 0);
}

#[test]
fn peers_cannot_make_label_sets_without_bound() {
    let registry = Registry::new();
    let metrics = TrafficMetrics::new(&registry);
    for number in 0..MAX_SERIES + 50 {
        let source = metrics.party(workload(&format!("w{number}")));
        drop(metrics.opened(
            ConnectionLabels { source, ..labels(&metrics, Reporter::Destination) },
            Arc::new(Count::default()),
        ));
    }
    assert_eq!(metrics.series_count(), MAX_SERIES + 1);
    let overflow = value(&registry, "istio_tcp_connections_opened_total", "source_workload=\"unknown\"");
    assert_eq!(overflow.unwrap(), "50");
}
