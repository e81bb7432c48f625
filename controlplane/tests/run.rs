//! A whole control plane against an API in memory, over real sockets on loopback.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the code of a test, its helpers included")]

#[path = "run/api.rs"]
mod api;
#[path = "run/authority.rs"]
mod authority;
#[path = "run/peer.rs"]
mod peer;

use std::net::SocketAddr;
use std::time::Duration;

use api::Api;
use config::{ControlPlane, Lookup};
use controlplane::Listeners;
use peer::Stream;
use prost::Message;
use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use proto::istio::workload::{Address, TunnelProtocol, Workload, address};
use proto::{ADDRESS_TYPE, AUTHORIZATION_TYPE};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tonic::Code;
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(10);
const TOKEN: &str = "aquifer-system/ztunnel/ztunnel-1/uid-ztunnel-1";
const CART: &str = "Kubernetes//Pod/shop/cart";

/// A running control plane and its API.
struct Mesh {
    api: Api,
    discovery: SocketAddr,
    monitoring: SocketAddr,
    trigger: drain::Trigger,
    running: tokio::task::JoinHandle<Result<(), controlplane::ControlPlaneError>>,
}

impl Mesh {
    async fn start(api: Api) -> Self {
        Self::start_with(api, &[]).await
    }

    async fn start_with(api: Api, knobs: &[(&'static str, &'static str)]) -> Self {
        let ports = [("XDS_PORT", "0"), ("MONITORING_PORT", "0"), ("PILOT_DEBOUNCE_MAX", "50ms")];
        let config = ControlPlane::from(&Lookup::from_iter(ports.into_iter().chain(knobs.iter().copied()))).unwrap();
        let listeners = Listeners::bind(&config).await.unwrap();
        let local = |address: SocketAddr| SocketAddr::from(([127, 0, 0, 1], address.port()));
        let discovery = local(listeners.discovery.local_addr().unwrap());
        let monitoring = local(listeners.monitoring.local_addr().unwrap());
        let (trigger, watch) = drain::new();
        let running = tokio::spawn(controlplane::run_on(config, api.client(), listeners, watch));
        Self { api, discovery, monitoring, trigger, running }
    }

    async fn ready() -> Self {
        let mesh = Self::start(cluster()).await;
        until("ready", || async { mesh.monitor("/ready").await.contains("200 OK") }).await;
        mesh
    }

    async fn channel(&self) -> Channel {
        self.channel_as("aquifer.aquifer-system.svc").await
    }

    async fn channel_as(&self, name: &'static str) -> Channel {
        until("a root certificate", || async { self.root("shop").is_some() }).await;
        peer::channel(self.discovery, self.root("shop").unwrap(), name).await
    }

    async fn stream(&self, type_url: &str) -> Stream {
        Stream::open(self.channel().await, TOKEN, "aquifer-system", type_url).await.unwrap()
    }

    fn root(&self, namespace: &str) -> Option<String> {
        let config_map = self.api.get("configmaps", namespace, "istio-ca-root-cert")?;
        config_map["data"]["root-cert.pem"].as_str().map(str::to_owned)
    }

    async fn monitor(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.monitoring).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

/// Waits for a condition.
async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "no {what} within {DEADLINE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn cluster() -> Api {
    let api = Api::new();
    for namespace in ["aquifer-system", "istio-system", "shop"] {
        api.apply("namespaces", json!({"metadata": {"name": namespace}}));
    }
    api.apply("nodes", json!({"metadata": {"name": "node-1"}}));
    api.apply("pods", pod("aquifer-system", "ztunnel-1", "ztunnel"));
    api.apply("pods", pod("shop", "cart", "cart"));
    api
}

fn pod(namespace: &str, name: &str, account: &str) -> Value {
    json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}"), "labels": {"app": name},
            "annotations": {"ambient.istio.io/redirection": "enabled"}},
        "spec": {"nodeName": "node-1", "serviceAccountName": account, "containers": []},
        "status": {"phase": "Running", "podIP": "10.244.1.2", "conditions": [{"type": "Ready", "status": "True"}]}})
}

fn workload(bytes: &[u8]) -> Workload {
    match Address::decode(bytes).unwrap().r#type.unwrap() {
        address::Type::Workload(workload) => workload,
        address::Type::Service(service) => panic!("{service:?}"),
    }
}

#[tokio::test]
async fn a_node_proxy_hears_of_the_cluster_and_of_each_change() {
    let mesh = Mesh::ready().await;
    let mut stream = mesh.stream(ADDRESS_TYPE).await;
    let first = stream.next().await.unwrap();
    let names: Vec<&str> = first.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!(names, ["Kubernetes//Pod/aquifer-system/ztunnel-1", CART]);
    stream.acknowledge(&first).await;
    mesh.api.apply("pods", pod("shop", "pay", "pay"));
    assert_eq!(workload(&stream.until("Kubernetes//Pod/shop/pay").await).service_account, "pay");
    let off = json!({"metadata": {"annotations": {"ambient.istio.io/redirection": null}}});
    mesh.api.patch("pods", "shop", "cart", &off);
    assert_eq!(workload(&stream.until(CART).await).tunnel_protocol(), TunnelProtocol::None);
    let metrics = mesh.monitor("/metrics").await;
    for line in ["pilot_xds_pushes{type=\"wds\"} 3", "pilot_xds_push_time_count{type=\"wds\"} 3"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // The first content was no change; the two that came later have been acknowledged.
    until("convergence", || async { mesh.monitor("/metrics").await.contains("pilot_proxy_convergence_time_count 2") })
        .await;
}

#[tokio::test]
async fn a_waypoint_may_read_with_the_token_of_its_own_pod_alone() {
    let mesh = Mesh::ready().await;
    let mut waypoint = pod("shop", "wp-1", "wp");
    waypoint["metadata"]["labels"] = json!({"gateway.networking.k8s.io/gateway-name": "wp"});
    mesh.api.apply("pods", waypoint);
    mesh.api.apply("pods", pod("shop", "imitator", "wp"));
    let gateway = json!({"apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"namespace": "shop", "name": "wp"}, "spec": {"gatewayClassName": "istio-waypoint"}});
    mesh.api.apply("gateways", gateway);
    let mut node = mesh.stream(ADDRESS_TYPE).await;
    node.until("Kubernetes//Pod/shop/imitator").await;
    let channel = mesh.channel().await;
    let open = async |token: &'static str| match Stream::open(channel.clone(), token, "shop", ADDRESS_TYPE).await {
        Ok(mut stream) => stream.next().await,
        Err(status) => Err(status),
    };
    const OWN: &str = "shop/wp/wp-1/uid-wp-1";
    until("waypoint's stream", || async { open(OWN).await.is_ok() }).await;
    for (token, reason) in [
        ("shop/wp/imitator/uid-imitator", "belongs to no Gateway"),
        ("shop/cart/wp-1/uid-wp-1", "runs as ServiceAccount wp"),
        ("shop/wp/wp-1/uid-before", "not there any more"),
        ("shop/wp", "not bound to a pod"),
    ] {
        let status = open(token).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{token}: {status}");
        assert!(status.message().contains(reason), "{token}: {status}");
    }
    mesh.api.delete("gateways", "shop", "wp");
    until("refusal", || async {
        open(OWN).await.is_err_and(|status| status.message().contains("Gateway shop/wp, to which"))
    })
    .await;
}

#[tokio::test]
async fn a_node_proxy_may_ask_for_single_names_and_addresses() {
    let mesh = Mesh::ready().await;
    let mut far = pod("shop", "pay", "pay");
    far["spec"]["nodeName"] = json!("node-2");
    far["status"]["podIP"] = json!("10.244.2.9");
    mesh.api.apply("pods", far);
    let service = json!({"metadata": {"namespace": "shop", "name": "pay"},
        "spec": {"clusterIPs": ["10.96.0.7"], "selector": {"app": "pay"}, "ports": [{"port": 80}]}});
    mesh.api.apply("services", service);
    mesh.stream(ADDRESS_TYPE).await.until("shop/pay.shop.svc.cluster.local").await;
    let all = || vec!["*".to_owned()];
    let request = DeltaDiscoveryRequest { type_url: ADDRESS_TYPE.to_owned(), ..DeltaDiscoveryRequest::default() };
    let nothing =
        DeltaDiscoveryRequest { resource_names_subscribe: all(), resource_names_unsubscribe: all(), ..request.clone() };
    let metadata = [("NAMESPACE", "aquifer-system"), ("NODE_NAME", "node-1")];
    let mut stream = Stream::open_with(mesh.channel().await, TOKEN, &metadata, nothing).await.unwrap();
    let names = |response: &DeltaDiscoveryResponse| -> Vec<String> {
        response.resources.iter().map(|resource| resource.name.clone()).collect()
    };
    let first = stream.next().await.unwrap();
    assert_eq!(names(&first), ["Kubernetes//Pod/aquifer-system/ztunnel-1", CART], "its own node, unasked");
    stream.acknowledge(&first).await;
    for (asked, expected, missing) in [
        ("/10.244.2.9", vec!["Kubernetes//Pod/shop/pay"], vec![]),
        ("/10.96.0.7", vec!["shop/pay.shop.svc.cluster.local"], vec![]),
        (
            "shop/pay.shop.svc.cluster.local",
            vec!["Kubernetes//Pod/shop/pay", "shop/pay.shop.svc.cluster.local"],
            vec![],
        ),
        ("/192.0.2.1", vec![], vec!["/192.0.2.1"]),
    ] {
        stream
            .send(DeltaDiscoveryRequest { resource_names_subscribe: vec![asked.to_owned()], ..request.clone() })
            .await;
        let answer = stream.next().await.unwrap();
        assert_eq!(
            (names(&answer), &answer.removed_resources),
            (
                expected.iter().map(|name| (*name).to_owned()).collect(),
                &missing.iter().map(|name| (*name).to_owned()).collect()
            ),
            "{asked}"
        );
        stream.acknowledge(&answer).await;
    }
}

#[tokio::test]
async fn only_node_accounts_may_read() {
    let mesh = Mesh::ready().await;
    let channel = mesh.channel().await;
    for (token, namespace, expected) in [
        ("shop/cart/cart/uid-cart", "shop", Code::PermissionDenied),
        ("aquifer-system/other/x/uid-x", "aquifer-system", Code::PermissionDenied),
        ("nonsense", "aquifer-system", Code::Unauthenticated),
        (TOKEN, "shop", Code::Unauthenticated),
        (TOKEN, "", Code::Unauthenticated),
    ] {
        let status = match Stream::open(channel.clone(), token, namespace, ADDRESS_TYPE).await {
            Ok(mut stream) => stream.next().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(status.code(), expected, "{token} of {namespace}: {status}");
    }
}

#[tokio::test]
async fn a_node_proxy_gets_certificates_under_each_name_of_the_server() {
    let mesh = Mesh::ready().await;
    for name in ["aquifer.aquifer-system.svc.cluster.local", "istiod.istio-system.svc", "localhost"] {
        let channel = mesh.channel_as(name).await;
        let identity = "spiffe://cluster.local/ns/shop/sa/cart";
        let certificate = peer::certificate(channel.clone(), TOKEN, identity).await.unwrap();
        assert_eq!(certificate.identity().to_string(), identity);
        let elsewhere = peer::certificate(channel, TOKEN, "spiffe://cluster.local/ns/shop/sa/nobody").await;
        assert_eq!(elsewhere.unwrap_err().code(), Code::Unauthenticated);
    }
    let metrics = mesh.monitor("/metrics").await;
    assert!(metrics.contains("citadel_server_csr_count 6"), "{metrics}");
    assert!(metrics.contains("citadel_server_success_cert_issuance_count 3"), "{metrics}");
}

#[tokio::test]
async fn every_namespace_holds_the_root_and_a_changed_one_is_repaired() {
    let mesh = Mesh::ready().await;
    for namespace in ["aquifer-system", "istio-system", "shop"] {
        until("root certificate", || async { mesh.root(namespace).is_some() }).await;
    }
    mesh.api.apply("namespaces", json!({"metadata": {"name": "late"}}));
    until("root certificate", || async { mesh.root("late").is_some() }).await;
    let root = mesh.root("shop");
    assert!(root.as_ref().unwrap().contains("BEGIN CERTIFICATE"));
    mesh.api.patch("configmaps", "shop", "istio-ca-root-cert", &json!({"data": {"root-cert.pem": "tampered"}}));
    until("repair", || async { mesh.root("shop") == root }).await;
}

#[tokio::test]
async fn a_second_replica_uses_the_first_ones_key() {
    let first = Mesh::ready().await;
    until("root certificate", || async { first.root("shop").is_some() }).await;
    let root = first.root("shop");
    let second = Mesh::start(first.api.clone()).await;
    until("ready", || async { second.monitor("/ready").await.contains("200 OK") }).await;
    let channel = second.channel().await;
    peer::certificate(channel, TOKEN, "spiffe://cluster.local/ns/shop/sa/cart").await.unwrap();
    assert_eq!(second.root("shop"), root);
    let created =
        first.api.writes().iter().filter(|write| *write == "POST secrets aquifer-system/istio-ca-secret").count();
    assert_eq!(created, 1);
}

#[tokio::test]
async fn a_leaving_pod_is_told_when_every_proxy_has_acknowledged() {
    let mesh = Mesh::ready().await;
    let told =
        || mesh.api.get("pods", "shop", "cart").unwrap()["metadata"]["annotations"]["ambient.aquifer.dev/told"].clone();
    let mut stream = mesh.stream(ADDRESS_TYPE).await;
    let first = stream.next().await.unwrap();
    stream.acknowledge(&first).await;
    let leave = json!({"metadata": {"annotations": {"ambient.istio.io/redirection": null, "ambient.aquifer.dev/leaving": "n-1"}}});
    mesh.api.patch("pods", "shop", "cart", &leave);
    let response = stream.next().await.unwrap();
    assert_eq!(response.resources[0].name, CART);
    // Something else happens meanwhile; the proxy has still not answered.
    mesh.api.apply("namespaces", json!({"metadata": {"name": "other"}}));
    until("root certificate", || async { mesh.root("other").is_some() }).await;
    assert_eq!(told(), Value::Null);
    stream.acknowledge(&response).await;
    until("answer", || async { told() == "n-1" }).await;
}

#[tokio::test]
async fn a_leaving_pod_is_told_at_once_when_nobody_is_connected() {
    let mesh = Mesh::ready().await;
    let leave = json!({"metadata": {"annotations": {"ambient.istio.io/redirection": null, "ambient.aquifer.dev/leaving": "n-2"}}});
    mesh.api.patch("pods", "shop", "cart", &leave);
    let told =
        || mesh.api.get("pods", "shop", "cart").unwrap()["metadata"]["annotations"]["ambient.aquifer.dev/told"].clone();
    until("answer", || async { told() == "n-2" }).await;
}

fn policy(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"namespace": "shop", "name": name}, "spec": spec})
}

#[tokio::test]
async fn a_policy_with_a_field_that_cannot_be_honoured_gets_a_condition_and_one_event() {
    let mesh = Mesh::ready().await;
    let paths =
        json!({"selector": {"matchLabels": {"app": "cart"}}, "rules": [{"to": [{"operation": {"paths": ["/x"]}}]}]});
    mesh.api.apply("authorizationpolicies", policy("paths", &paths));
    mesh.api.apply("authorizationpolicies", policy("fine", &json!({})));
    let misspelt = json!({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
        "metadata": {"namespace": "shop", "name": "typo"}, "spec": {"mTLS": {"mode": "STRICT"}}});
    mesh.api.apply("peerauthentications", misspelt);
    let condition =
        |resource: &str, name: &str| mesh.api.get(resource, "shop", name).unwrap()["status"]["conditions"][0].clone();
    for (resource, name, status, reason, text) in [
        (
            "authorizationpolicies",
            "paths",
            "True",
            "UnsupportedValue",
            "ztunnel does not support HTTP attributes (found: paths)",
        ),
        ("authorizationpolicies", "fine", "True", "Accepted", "attached to ztunnel"),
        ("peerauthentications", "typo", "False", "PartiallyInvalid", "unknown field \"mTLS\", did you mean \"mtls\"?"),
    ] {
        until("condition", || async { condition(resource, name).is_object() }).await;
        let found = condition(resource, name);
        assert_eq!(
            (&found["type"], &found["status"], &found["reason"]),
            (&json!("ZtunnelAccepted"), &json!(status), &json!(reason))
        );
        assert!(found["message"].as_str().unwrap().contains(text), "{found}");
        assert_eq!(found["observedGeneration"], 1);
    }
    // The written status comes back through the watch; nothing more is to be said until something changes.
    mesh.api.apply("authorizationpolicies", policy("last", &json!({})));
    until("condition", || async { condition("authorizationpolicies", "last").is_object() }).await;
    let events = mesh.api.list("events");
    let about: Vec<&str> = events.iter().map(|event| event["involvedObject"]["name"].as_str().unwrap()).collect();
    assert_eq!(about, ["paths", "typo"], "{events:?}");
    let writes = mesh.api.writes();
    for name in ["paths", "fine", "typo"] {
        let patches = writes.iter().filter(|write| write.starts_with("PATCH") && write.ends_with(&format!("/{name}")));
        assert_eq!(patches.count(), 1, "{writes:?}");
    }
}

#[tokio::test]
async fn hosts_are_assigned_addresses_that_stay_when_the_control_plane_is_replaced() {
    let mesh = Mesh::ready().await;
    let entry = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"namespace": "shop", "name": "mysql", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"hosts": ["mysql.external.com"], "resolution": "DNS", "exportTo": ["other"],
            "ports": [{"number": 3306, "name": "tcp", "protocol": "TCP"}]}});
    mesh.api.apply("serviceentries", entry);
    let assigned = |api: &Api| api.get("serviceentries", "shop", "mysql").unwrap()["status"]["addresses"].clone();
    until("addresses", || async { assigned(&mesh.api).as_array().is_some_and(|list| list.len() == 2) }).await;
    let first = assigned(&mesh.api);
    assert!(first[0]["value"].as_str().unwrap().starts_with("240.240."), "{first}");
    assert!(first[1]["value"].as_str().unwrap().starts_with("2001:2::"), "{first}");
    // The condition and the addresses are written by two who do not wait for each other.
    let condition = || mesh.api.get("serviceentries", "shop", "mysql").unwrap()["status"]["conditions"][0].clone();
    until("condition", || async { condition()["reason"] == "UnsupportedValue" }).await;
    assert!(condition()["message"].as_str().unwrap().contains("spec.exportTo[0]"));
    assert_eq!(assigned(&mesh.api), first);
    let mut stream = mesh.stream(ADDRESS_TYPE).await;
    let vips = |bytes: &[u8]| match Address::decode(bytes).unwrap().r#type.unwrap() {
        address::Type::Service(service) => service.addresses.len(),
        address::Type::Workload(workload) => panic!("{workload:?}"),
    };
    while vips(&stream.until("shop/mysql.external.com").await) != 2 {}

    let second = Mesh::start(mesh.api.clone()).await;
    until("ready", || async { second.monitor("/ready").await.contains("200 OK") }).await;
    let mut stream = second.stream(ADDRESS_TYPE).await;
    assert_eq!(vips(&stream.until("shop/mysql.external.com").await), 2);
    assert_eq!(assigned(&mesh.api), first);
}

#[tokio::test]
async fn what_is_known_stays_in_force_while_the_api_server_is_away() {
    let mesh = Mesh::ready().await;
    let mut stream = mesh.stream(ADDRESS_TYPE).await;
    let first = stream.next().await.unwrap();
    stream.acknowledge(&first).await;
    mesh.api.break_down();
    mesh.api.apply("pods", pod("shop", "pay", "pay"));
    mesh.api.break_down();
    // The token was reviewed before, so that even a new stream needs no API server.
    let mut fresh = mesh.stream(AUTHORIZATION_TYPE).await;
    assert!(fresh.next().await.is_ok_and(|response| response.removed_resources.is_empty()));
    mesh.api.mend();
    let response = stream.next().await.unwrap();
    let names: Vec<&str> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!((names, response.removed_resources.len()), (vec!["Kubernetes//Pod/shop/pay"], 0));
}

#[tokio::test]
async fn it_starts_without_the_policy_kinds_and_takes_them_up_when_they_come() {
    let api = cluster();
    api.apply("authorizationpolicies", policy("deny-all", &json!({})));
    api.set_absent("authorizationpolicies", true);
    api.set_absent("peerauthentications", true);
    let mesh = Mesh::start(api).await;
    until("ready", || async { mesh.monitor("/ready").await.contains("200 OK") }).await;
    let mut stream = mesh.stream(AUTHORIZATION_TYPE).await;
    mesh.api.set_absent("authorizationpolicies", false);
    stream.until("shop/deny-all").await;
}

#[tokio::test]
async fn policies_stay_in_force_while_a_starting_api_server_does_not_know_their_kind() {
    let mesh = Mesh::ready().await;
    mesh.api.apply("authorizationpolicies", policy("deny-all", &json!({})));
    let mut stream = mesh.stream(AUTHORIZATION_TYPE).await;
    stream.until("shop/deny-all").await;
    mesh.api.break_down();
    mesh.api.set_absent("authorizationpolicies", true);
    mesh.api.mend();
    // Once another kind is watched again, this one has been asked for too.
    mesh.api.apply("namespaces", json!({"metadata": {"name": "after"}}));
    until("root certificate", || async { mesh.root("after").is_some() }).await;
    mesh.api.set_absent("authorizationpolicies", false);
    mesh.api.apply("authorizationpolicies", policy("late", &json!({})));
    let response = stream.next().await.unwrap();
    let names: Vec<&str> = response.resources.iter().map(|resource| resource.name.as_str()).collect();
    assert_eq!((names, response.removed_resources.len()), (vec!["shop/late"], 0));
}

#[tokio::test]
async fn nothing_is_served_before_the_first_complete_configuration() {
    let api = cluster();
    api.break_down();
    let mesh = Mesh::start(api).await;
    let answer = mesh.monitor("/ready").await;
    assert!(answer.contains("503") && answer.contains("not ready: certificate authority, configuration"), "{answer}");
    mesh.api.mend();
    until("ready", || async { mesh.monitor("/ready").await.contains("200 OK") }).await;
    assert_eq!(mesh.stream(ADDRESS_TYPE).await.next().await.unwrap().resources.len(), 2);
}

#[tokio::test]
async fn a_drain_ends_it_with_its_streams() {
    let mesh = Mesh::ready().await;
    let mut stream = mesh.stream(ADDRESS_TYPE).await;
    stream.next().await.unwrap();
    mesh.trigger.start(Duration::from_secs(5));
    tokio::time::timeout(DEADLINE, mesh.running).await.expect("an end in time").unwrap().unwrap();
    assert!(stream.next().await.is_err());
}

#[tokio::test]
async fn a_drain_ends_it_while_it_waits_for_the_api_server() {
    let api = cluster();
    api.break_down();
    let mesh = Mesh::start(api).await;
    mesh.trigger.start(Duration::from_secs(5));
    tokio::time::timeout(DEADLINE, mesh.running).await.expect("an end in time").unwrap().unwrap();
}
