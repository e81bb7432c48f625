//! What a dump shows of each thing, with the keys that other meshes' tools read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use discovery::{GatewayAddress, Health, HealthPolicy, IpFamilies, LocalName, Mode, NetworkMode, PortMap, Protocol};
use discovery::{Scope as LocalityScope, TunnelProtocol, View, Visibility};
use identity::{Dump, DumpState};
use policy::{Action, Authorization, Match, Scope, ServiceAccountMatch, StringMatch};
use serde::Serialize;
use serde_json::{Value, json};
use tls::CertificateDetails;
use types::NamespacedHostname;

use crate::live::{Carriage, Live};

/// A text that is left out when it is empty.
type Text = Arc<str>;

fn is_empty(text: &str) -> bool {
    text.is_empty()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workload {
    workload_ips: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<Gateway>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_gateway: Option<Gateway>,
    protocol: &'static str,
    network_mode: &'static str,
    uid: String,
    #[serde(skip_serializing_if = "is_empty")]
    name: Text,
    namespace: Text,
    #[serde(skip_serializing_if = "is_empty")]
    trust_domain: String,
    service_account: Text,
    #[serde(skip_serializing_if = "is_empty")]
    network: Text,
    #[serde(skip_serializing_if = "is_empty")]
    workload_name: Text,
    workload_type: &'static str,
    #[serde(skip_serializing_if = "is_empty")]
    canonical_name: Text,
    #[serde(skip_serializing_if = "is_empty")]
    canonical_revision: Text,
    #[serde(skip_serializing_if = "is_empty")]
    hostname: String,
    #[serde(skip_serializing_if = "is_empty")]
    node: Text,
    native_tunnel: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_tunnel: Option<Value>,
    authorization_policies: Vec<String>,
    status: &'static str,
    #[serde(skip_serializing_if = "is_empty")]
    cluster_id: Text,
    locality: BTreeMap<&'static str, Text>,
    services: Vec<String>,
    capacity: u32,
}

impl Workload {
    pub(super) fn new(workload: &discovery::Workload) -> Self {
        let locality = &workload.locality;
        let parts = [("region", &locality.region), ("zone", &locality.zone), ("subzone", &locality.subzone)];
        Self {
            workload_ips: texts(&workload.addresses),
            waypoint: workload.waypoint.as_deref().map(Gateway::new),
            network_gateway: workload.network_gateway.as_deref().map(Gateway::new),
            protocol: if workload.protocol == Protocol::Hbone { "HBONE" } else { "TCP" },
            network_mode: match workload.network_mode {
                NetworkMode::Standard => "Standard",
                NetworkMode::HostNetwork => "HostNetwork",
            },
            uid: workload.uid.to_string(),
            name: Arc::clone(&workload.name),
            namespace: Arc::clone(&workload.namespace),
            trust_domain: workload.trust_domain.to_string(),
            service_account: Arc::clone(&workload.service_account),
            network: Arc::clone(&workload.network),
            workload_name: Arc::clone(&workload.workload_name),
            workload_type: workload.workload_type.as_str(),
            canonical_name: Arc::clone(&workload.canonical_name),
            canonical_revision: Arc::clone(&workload.canonical_revision),
            hostname: workload.hostname.to_string(),
            node: Arc::clone(&workload.node),
            native_tunnel: workload.native_tunnel,
            application_tunnel: workload.application_tunnel.map(|tunnel| {
                let protocol = if tunnel.protocol == TunnelProtocol::Proxy { "PROXY" } else { "NONE" };
                json!({ "protocol": protocol, "port": tunnel.port })
            }),
            authorization_policies: texts(&workload.authorization_policies),
            status: health(workload.health),
            cluster_id: Arc::clone(&workload.cluster_id),
            locality: parts.into_iter().filter(|(_, part)| !part.is_empty()).map(|(k, v)| (k, Arc::clone(v))).collect(),
            services: workload.services.iter().map(|(key, _)| key_text(key)).collect(),
            capacity: workload.capacity,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gateway {
    destination: String,
    hbone_mtls_port: u16,
}

impl Gateway {
    fn new(gateway: &GatewayAddress) -> Self {
        Self { destination: gateway.destination.to_string(), hbone_mtls_port: gateway.hbone_mtls_port }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Service {
    name: Text,
    namespace: Text,
    hostname: String,
    vips: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cidr_vips: Vec<Value>,
    ports: BTreeMap<u16, u16>,
    endpoints: BTreeMap<String, Endpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subject_alt_names: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    waypoint: Option<Gateway>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    weighted_waypoints: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    load_balancer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_families: Option<&'static str>,
    canonical: bool,
    visibility: &'static str,
}

impl Service {
    pub(super) fn new(view: &View, service: &discovery::Service) -> Self {
        let key = service.key();
        let endpoints = view.endpoints(&key);
        let usable = endpoints.iter().filter(|endpoint| service.accepts(endpoint));
        Self {
            name: Arc::clone(&service.name),
            namespace: Arc::clone(&service.namespace),
            hostname: service.hostname.to_string(),
            vips: texts(&service.vips),
            cidr_vips: service
                .cidr_vips
                .iter()
                .map(|vip| json!({ "network": &*vip.network, "cidr": vip.cidr.to_string() }))
                .collect(),
            ports: ports(&service.ports),
            endpoints: usable.map(|endpoint| (endpoint.uid.to_string(), Endpoint::new(endpoint, &key))).collect(),
            subject_alt_names: texts(&service.subject_alt_names),
            waypoint: service.waypoint.as_ref().map(Gateway::new),
            weighted_waypoints: service
                .weighted_waypoints
                .iter()
                .map(
                    |weighted| json!({ "destination": Gateway::new(&weighted.destination), "weight": weighted.weight }),
                )
                .collect(),
            load_balancer: service.load_balancing.as_ref().map(load_balancer),
            ip_families: match service.ip_families {
                IpFamilies::Automatic => None,
                IpFamilies::Dual => Some("Dual"),
                IpFamilies::Ipv4Only => Some("IPv4"),
                IpFamilies::Ipv6Only => Some("IPv6"),
            },
            canonical: service.is_canonical,
            visibility: match service.visibility {
                Visibility::Public => "Public",
                Visibility::Namespace => "Namespace",
            },
        }
    }
}

fn load_balancer(balancing: &discovery::LoadBalancing) -> Value {
    let scope = |scope: &LocalityScope| match scope {
        LocalityScope::Region => "Region",
        LocalityScope::Zone => "Zone",
        LocalityScope::Subzone => "Subzone",
        LocalityScope::Node => "Node",
        LocalityScope::Cluster => "Cluster",
        LocalityScope::Network => "Network",
    };
    json!({
        "routingPreferences": balancing.routing_preference.iter().map(scope).collect::<Vec<_>>(),
        "mode": match balancing.mode {
            Mode::Standard => "Standard",
            Mode::Strict => "Strict",
            Mode::Failover => "Failover",
            Mode::Passthrough => "Passthrough",
        },
        "healthPolicy": match balancing.health_policy {
            HealthPolicy::OnlyHealthy => "OnlyHealthy",
            HealthPolicy::AllowAll => "AllowAll",
        },
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    workload_uid: String,
    port: BTreeMap<u16, u16>,
    status: &'static str,
}

impl Endpoint {
    pub(super) fn new(workload: &discovery::Workload, service: &NamespacedHostname) -> Self {
        Self {
            workload_uid: workload.uid.to_string(),
            port: workload.ports(service).map(ports).unwrap_or_default(),
            status: health(workload.health),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    name: Text,
    namespace: Text,
    scope: &'static str,
    action: &'static str,
    dry_run: bool,
    rules: Vec<Vec<Vec<BTreeMap<&'static str, Value>>>>,
}

impl Policy {
    pub(super) fn new(policy: &Authorization) -> Self {
        let clauses = |rule: &policy::Rule| {
            rule.clauses.iter().map(|clause| clause.matches.iter().map(conditions).collect()).collect()
        };
        Self {
            name: Arc::clone(&policy.key.name),
            namespace: Arc::clone(&policy.key.namespace),
            scope: match policy.scope {
                Scope::Global => "Global",
                Scope::Namespace => "Namespace",
                Scope::WorkloadSelector => "WorkloadSelector",
            },
            action: match policy.action {
                Action::Allow => "Allow",
                Action::Deny => "Deny",
            },
            dry_run: policy.dry_run,
            rules: policy.rules.iter().map(clauses).collect(),
        }
    }
}

fn conditions(conditions: &Match) -> BTreeMap<&'static str, Value> {
    let strings = |list: &[StringMatch]| list.iter().map(string_match).collect::<Vec<_>>();
    let accounts = |list: &[ServiceAccountMatch]| {
        let account = |account: &ServiceAccountMatch| json!({ "namespace": &*account.namespace, "serviceAccount": &*account.service_account });
        list.iter().map(account).collect::<Vec<_>>()
    };
    let cidrs = |list: &[types::Cidr]| list.iter().map(|cidr| json!(cidr.to_string())).collect::<Vec<_>>();
    let numbers = |list: &[u16]| list.iter().map(|port| json!(port)).collect::<Vec<_>>();
    let all = [
        ("namespaces", strings(&conditions.namespaces)),
        ("notNamespaces", strings(&conditions.not_namespaces)),
        ("principals", strings(&conditions.principals)),
        ("notPrincipals", strings(&conditions.not_principals)),
        ("serviceAccounts", accounts(&conditions.service_accounts)),
        ("notServiceAccounts", accounts(&conditions.not_service_accounts)),
        ("sourceIps", cidrs(&conditions.source_ips)),
        ("notSourceIps", cidrs(&conditions.not_source_ips)),
        ("destinationIps", cidrs(&conditions.destination_ips)),
        ("notDestinationIps", cidrs(&conditions.not_destination_ips)),
        ("destinationPorts", numbers(&conditions.destination_ports)),
        ("notDestinationPorts", numbers(&conditions.not_destination_ports)),
    ];
    all.into_iter().filter(|(_, list)| !list.is_empty()).map(|(name, list)| (name, Value::from(list))).collect()
}

fn string_match(matching: &StringMatch) -> Value {
    match matching {
        StringMatch::Exact(text) => json!({ "Exact": &**text }),
        StringMatch::Prefix(text) => json!({ "Prefix": &**text }),
        StringMatch::Suffix(text) => json!({ "Suffix": &**text }),
        StringMatch::Presence => json!({ "Presence": [] }),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    identity: String,
    state: String,
    cert_chain: Vec<CertificateEntry>,
    root_certs: Vec<CertificateEntry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CertificateEntry {
    pem: String,
    serial_number: String,
    valid_from: String,
    expiration_time: String,
}

impl Certificate {
    pub(super) fn new(dump: &Dump) -> Self {
        Self {
            identity: dump.identity.to_string(),
            state: match &dump.state {
                DumpState::Initializing => "Initializing".to_owned(),
                DumpState::Available => "Available".to_owned(),
                DumpState::Unavailable(reason) => format!("Unavailable: {reason}"),
            },
            cert_chain: dump.chain.iter().map(CertificateEntry::new).collect(),
            root_certs: dump.roots.iter().map(CertificateEntry::new).collect(),
        }
    }
}

impl CertificateEntry {
    fn new(details: &CertificateDetails) -> Self {
        Self {
            pem: STANDARD.encode(&details.pem),
            serial_number: details.serial_number.clone(),
            valid_from: rfc3339(details.not_before),
            expiration_time: rfc3339(details.not_after),
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

#[derive(Serialize)]
pub(super) struct PodState {
    state: &'static str,
    info: BTreeMap<&'static str, Text>,
    connections: BTreeMap<&'static str, Vec<Connection>>,
}

impl PodState {
    pub(super) fn new(
        state: &'static str,
        name: &LocalName,
        inbound: Vec<Connection>,
        outbound: Vec<Connection>,
    ) -> Self {
        Self {
            state,
            info: BTreeMap::from([
                ("name", Arc::clone(&name.name)),
                ("namespace", Arc::clone(&name.namespace)),
                ("serviceAccount", Arc::clone(&name.service_account)),
            ]),
            connections: BTreeMap::from([("inbound", inbound), ("outbound", outbound)]),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Connection {
    src: SocketAddr,
    original_dst: Option<String>,
    actual_dst: SocketAddr,
    protocol: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    handshake: Option<Handshake>,
}

/// When and how the client of a tunnel has proven itself; Istio's ztunnel does not say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Handshake {
    time: String,
    key_exchange: String,
    resumed: bool,
}

impl Connection {
    /// `None` while the connection is being made.
    pub(super) fn new(live: &Live) -> Option<Self> {
        let path = live.path.get()?;
        Some(Self {
            src: live.source,
            original_dst: path.original.clone(),
            actual_dst: path.actual,
            protocol: match path.carriage {
                Carriage::Tcp => "TCP",
                Carriage::Hbone => "HBONE",
                Carriage::DoubleHbone => "DOUBLEHBONE",
                Carriage::SameNode => "LOCAL",
            },
            handshake: path.handshake.as_ref().map(|handshake| Handshake {
                time: rfc3339(handshake.at),
                key_exchange: handshake.key_exchange.clone(),
                resumed: handshake.is_resumed,
            }),
        })
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Healthy => "Healthy",
        Health::Unhealthy => "Unhealthy",
    }
}

fn ports(ports: &PortMap) -> BTreeMap<u16, u16> {
    ports.iter().map(|port| (port.service_port, port.target_port)).collect()
}

pub(super) fn key_text(key: &NamespacedHostname) -> String {
    key.to_string()
}

fn texts(items: &[impl ToString]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}
