//! The recorded JSON as the mesh's models: a second, independent way from the control plane's words to ours.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use discovery::{
    AppProtocol, Destination, GatewayAddress, IpFamilies, LoadBalancing, Locality, Mode, NetworkMode, Port, PortMap,
    Protocol, Scope, Service, Workload, WorkloadType,
};
use policy::{Action, Authorization, Clause, Match, Rule, StringMatch};
use serde_json::Value;
use types::{NamespacedHostname, NamespacedName, NetworkAddress};

pub(super) fn addresses() -> Vec<Value> {
    serde_json::from_str(include_str!("../../fixtures/istio/WDS.json")).unwrap()
}

pub(super) fn policies() -> Vec<Value> {
    serde_json::from_str(include_str!("../../fixtures/istio/WADS.json")).unwrap()
}

pub(super) fn workloads() -> Vec<Workload> {
    addresses().iter().filter_map(|resource| resource["resource"].get("workload")).map(workload).collect()
}

pub(super) fn services() -> Vec<Service> {
    addresses().iter().filter_map(|resource| resource["resource"].get("service")).map(service).collect()
}

pub(super) fn authorizations() -> Vec<Authorization> {
    policies().iter().map(|resource| authorization(&resource["resource"])).collect()
}

/// Fails when the JSON has something that the expectation would not look at.
fn has_only(value: &Value, known: &[&str]) {
    for key in value.as_object().unwrap().keys() {
        assert!(known.contains(&key.as_str()), "unexpected {key} in {value}");
    }
}

fn text(value: &Value, key: &str) -> Arc<str> {
    Arc::from(value[key].as_str().unwrap_or_default())
}

fn text_or(value: &Value, key: &str, default: &str) -> Arc<str> {
    Arc::from(value[key].as_str().unwrap_or(default))
}

fn list<T>(value: &Value, key: &str, convert: impl Fn(&Value) -> T) -> Vec<T> {
    value[key].as_array().into_iter().flatten().map(convert).collect()
}

fn ip(value: &Value) -> IpAddr {
    let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    match <[u8; 4]>::try_from(&*bytes) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(&*bytes).unwrap().into(),
    }
}

fn number(value: &Value, key: &str) -> u16 {
    u16::try_from(value[key].as_u64().unwrap_or(0)).unwrap()
}

fn port(value: &Value) -> Port {
    has_only(value, &["servicePort", "targetPort", "appProtocol"]);
    let app_protocol = match value["appProtocol"].as_str() {
        None => AppProtocol::Unknown,
        Some("HTTP11") => AppProtocol::Http11,
        Some("GRPC") => AppProtocol::Grpc,
        Some("TCP") => AppProtocol::Tcp,
        Some("TLS") => AppProtocol::Tls,
        Some(other) => panic!("{other}"),
    };
    Port { service_port: number(value, "servicePort"), target_port: number(value, "targetPort"), app_protocol }
}

fn waypoint(value: &Value) -> Option<GatewayAddress> {
    let waypoint = value.get("waypoint")?;
    has_only(waypoint, &["hostname", "hboneMtlsPort"]);
    let name = &waypoint["hostname"];
    let destination = NamespacedHostname::new(text(name, "namespace"), text(name, "hostname"));
    let hbone_mtls_port = number(waypoint, "hboneMtlsPort");
    Some(GatewayAddress { destination: Destination::Hostname(destination), hbone_mtls_port })
}

const WORKLOAD_KEYS: [&str; 16] = [
    "uid",
    "name",
    "namespace",
    "addresses",
    "tunnelProtocol",
    "serviceAccount",
    "waypoint",
    "node",
    "canonicalName",
    "canonicalRevision",
    "workloadType",
    "workloadName",
    "services",
    "clusterId",
    "locality",
    "networkMode",
];

fn workload(value: &Value) -> Workload {
    has_only(value, &[WORKLOAD_KEYS.as_slice(), &["authorizationPolicies"]].concat());
    let ports =
        |(key, list_): (&String, &Value)| (key.parse().unwrap(), list(list_, "ports", port).into_iter().collect());
    let mut services: Vec<(NamespacedHostname, PortMap)> =
        value["services"].as_object().into_iter().flatten().map(ports).collect();
    services.sort_by(|(left, _), (right, _)| left.cmp(right));
    Workload {
        uid: text(value, "uid").into(),
        name: text(value, "name"),
        namespace: text(value, "namespace"),
        addresses: list(value, "addresses", ip).into(),
        protocol: match value["tunnelProtocol"].as_str() {
            None => Protocol::Tcp,
            Some("HBONE") => Protocol::Hbone,
            Some(other) => panic!("{other}"),
        },
        service_account: text_or(value, "serviceAccount", "default"),
        waypoint: waypoint(value).map(Arc::new),
        node: text(value, "node"),
        canonical_name: text(value, "canonicalName"),
        canonical_revision: text(value, "canonicalRevision"),
        workload_type: match value["workloadType"].as_str() {
            None => WorkloadType::Deployment,
            Some("POD") => WorkloadType::Pod,
            Some(other) => panic!("{other}"),
        },
        workload_name: text(value, "workloadName"),
        authorization_policies: list(value, "authorizationPolicies", |key| key.as_str().unwrap().parse().unwrap())
            .into(),
        cluster_id: text_or(value, "clusterId", "Kubernetes"),
        services: services.into(),
        locality: value.get("locality").map(locality).unwrap_or_default().into(),
        network_mode: match value["networkMode"].as_str() {
            None => NetworkMode::Standard,
            Some("HOST_NETWORK") => NetworkMode::HostNetwork,
            Some(other) => panic!("{other}"),
        },
        ..Workload::default()
    }
}

fn locality(value: &Value) -> Locality {
    Locality { region: text(value, "region"), zone: text(value, "zone"), subzone: text(value, "subzone") }
}

fn service(value: &Value) -> Service {
    has_only(
        value,
        &[
            "name",
            "namespace",
            "hostname",
            "addresses",
            "ports",
            "waypoint",
            "ipFamilies",
            "canonical",
            "loadBalancing",
        ],
    );
    let vip = |value: &Value| {
        has_only(value, &["address"]);
        NetworkAddress { network: Arc::default(), address: ip(&value["address"]) }
    };
    Service {
        name: text(value, "name"),
        namespace: text(value, "namespace"),
        hostname: text(value, "hostname").into(),
        vips: list(value, "addresses", vip),
        ports: list(value, "ports", port).into_iter().collect(),
        waypoint: waypoint(value),
        load_balancing: value.get("loadBalancing").map(load_balancing),
        ip_families: match value["ipFamilies"].as_str() {
            None => IpFamilies::Automatic,
            Some("IPV4_ONLY") => IpFamilies::Ipv4Only,
            Some(other) => panic!("{other}"),
        },
        is_canonical: value["canonical"].as_bool().unwrap(),
        ..Service::default()
    }
}

fn load_balancing(value: &Value) -> LoadBalancing {
    has_only(value, &["routingPreference", "mode"]);
    assert_eq!(value["mode"], "FAILOVER");
    let scope = |value: &Value| match value.as_str().unwrap() {
        "NETWORK" => Scope::Network,
        "REGION" => Scope::Region,
        "ZONE" => Scope::Zone,
        other => panic!("{other}"),
    };
    LoadBalancing {
        routing_preference: list(value, "routingPreference", scope),
        mode: Mode::Failover,
        ..LoadBalancing::default()
    }
}

fn authorization(value: &Value) -> Authorization {
    has_only(value, &["@type", "name", "namespace", "scope", "action", "groups"]);
    assert_eq!(value["scope"], "WORKLOAD_SELECTOR");
    Authorization {
        key: NamespacedName::new(text(value, "namespace"), text(value, "name")),
        scope: policy::Scope::WorkloadSelector,
        action: match value["action"].as_str() {
            None => Action::Allow,
            Some("DENY") => Action::Deny,
            Some(other) => panic!("{other}"),
        },
        dry_run: false,
        rules: list(value, "groups", |group| {
            let clause = |rules: &Value| Clause { matches: list(rules, "matches", one_match) };
            Rule { clauses: list(group, "rules", clause) }
        }),
    }
}

fn one_match(value: &Value) -> Match {
    has_only(value, &["namespaces", "principals", "notPrincipals", "destinationPorts", "notDestinationPorts"]);
    let port = |value: &Value| u16::try_from(value.as_u64().unwrap()).unwrap();
    Match {
        namespaces: list(value, "namespaces", string_match),
        principals: list(value, "principals", string_match),
        not_principals: list(value, "notPrincipals", string_match),
        destination_ports: list(value, "destinationPorts", port),
        not_destination_ports: list(value, "notDestinationPorts", port),
        ..Match::default()
    }
}

fn string_match(value: &Value) -> StringMatch {
    match value.get("exact") {
        Some(exact) => StringMatch::Exact(Arc::from(exact.as_str().unwrap())),
        None => {
            assert_eq!(*value, serde_json::json!({ "presence": {} }));
            StringMatch::Presence
        }
    }
}
