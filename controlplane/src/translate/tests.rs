//! What the golden files do not show: options, names, size.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;

fn objects_of(manifest: &str) -> Objects {
    let mut objects = Objects::default();
    for object in kinds::manifest::read(manifest).unwrap() {
        assert!(objects.add(object).unwrap());
    }
    objects
}

const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: shop, labels: {app: a}}, \
    spec: {hostNetwork: false, containers: []}, status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: \"fd00::1\"}]}}";
const SERVICE: &str = "{apiVersion: v1, kind: Service, metadata: {name: s, namespace: shop}, \
    spec: {clusterIPs: [10.96.0.1], selector: {app: a}, ports: [{port: 80}]}}";

#[test]
fn cluster_domain_and_trust_domain_are_options() {
    let options = Options {
        cluster_id: "c2".to_owned(),
        cluster_domain: "example.org".to_owned(),
        trust_domain: "td".parse().unwrap(),
        ..Options::default()
    };
    let resources = resources(&objects_of(&format!("{POD}\n---\n{SERVICE}")), &options);
    let names: Vec<&str> = resources.addresses.keys().map(String::as_str).collect();
    assert_eq!(names, ["c2//Pod/shop/a", "shop/s.shop.svc.example.org"]);
    let Some(address::Type::Workload(pod)) = &resources.addresses["c2//Pod/shop/a"].r#type else { panic!() };
    assert_eq!((pod.trust_domain.as_str(), pod.cluster_id.as_str()), ("td", "c2"));
    assert_eq!(pod.services.keys().collect::<Vec<_>>(), ["shop/s.shop.svc.example.org"]);
}

#[test]
fn dry_run_policies_are_sent_when_asked_for() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: shop, \
        annotations: {istio.io/dry-run: \"true\"}}, spec: {action: DENY, rules: [{}]}}";
    let objects = objects_of(policy);
    assert!(resources(&objects, &Options::default()).authorizations.is_empty());
    let options = Options { dry_run_policies: true, ..Options::default() };
    assert!(resources(&objects, &options).authorizations["shop/p"].dry_run);
}

#[test]
fn the_root_namespace_is_an_option() {
    let policy = "{apiVersion: security.istio.io/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: root}}";
    let options = Options { root_namespace: "root".to_owned(), ..Options::default() };
    let resources = resources(&objects_of(policy), &options);
    assert_eq!(resources.authorizations["root/p"].scope, i32::from(proto::istio::security::Scope::Global));
}

#[test]
fn resources_are_found_by_address_and_service() {
    let resources = resources(&objects_of(&format!("{POD}\n---\n{SERVICE}")), &Options::default());
    let of = |name: &str| aliases(&resources.addresses[name]);
    assert_eq!(of("Kubernetes//Pod/shop/a"), ["/10.0.0.1", "/fd00::1", "shop/s.shop.svc.cluster.local"]);
    assert_eq!(of("shop/s.shop.svc.cluster.local"), ["/10.96.0.1"]);
    let node = POD.replace("hostNetwork: false", "hostNetwork: true");
    let resources = super::resources(&objects_of(&node), &Options::default());
    assert_eq!(aliases(&resources.addresses["Kubernetes//Pod/shop/a"]), Vec::<String>::new());
}

/// The promise is a second on two cores for an optimised build; a debug build is some ten times slower.
#[test]
fn ten_thousand_pods_are_derived_quickly() {
    let mut objects = Objects::default();
    for namespace in 0..20 {
        for service in 0..50 {
            let service = json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s{service}"), "namespace": format!("n{namespace}")},
                "spec": {"clusterIPs": [format!("10.96.{namespace}.{service}")], "selector": {"app": format!("a{service}")},
                    "ports": [{"port": 80, "targetPort": "http"}]}});
            objects.add(service).unwrap();
        }
        for pod in 0..500 {
            let pod = json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("p{pod}"), "namespace": format!("n{namespace}"),
                    "labels": {"app": format!("a{}", pod % 50), "version": "v1", "pod-template-hash": "x"}},
                "spec": {"serviceAccountName": "sa", "nodeName": "n1",
                    "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}]},
                "status": {"podIP": format!("10.{namespace}.{}.{}", pod / 250, pod % 250)}});
            objects.add(pod).unwrap();
        }
        for policy in 0..5 {
            let policy = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": format!("p{policy}"), "namespace": format!("n{namespace}")},
                "spec": {"selector": {"matchLabels": {"app": format!("a{policy}")}}, "rules": [{}]}});
            objects.add(policy).unwrap();
        }
    }
    let start = tokio::time::Instant::now();
    let derived = resources(&objects, &Options::default());
    let took = start.elapsed();
    println!("10,000 pods and 1,000 services derived in {took:?}");
    assert_eq!(derived.addresses.len(), 11_000);
    let endpoints: BTreeSet<usize> = derived
        .addresses
        .values()
        .filter_map(|address| match &address.r#type {
            Some(address::Type::Workload(workload)) => Some(workload.services.len()),
            _ => None,
        })
        .collect();
    assert_eq!(endpoints, [1].into());
    assert!(took < std::time::Duration::from_secs(10), "{took:?}");
}
