//! Resources as JSON to read: names of fields and values as in the wire's definitions, defaults left out.

use std::net::IpAddr;

use controlplane::translate::Resources;
use proto::istio::security::{self, Authorization, Match, StringMatch, string_match};
use proto::istio::workload::{self, Locality, Port, Service, Workload, address, gateway_address, load_balancing};
use serde_json::{Map, Value, json};

pub(crate) fn resources(resources: &Resources) -> Value {
    let addresses = resources.addresses.iter().map(|(name, address)| {
        let rendered = match address.r#type.as_ref().unwrap() {
            address::Type::Workload(one) => json!({"workload": workload(one)}),
            address::Type::Service(one) => json!({"service": service(one)}),
        };
        (name.clone(), rendered)
    });
    let policies = resources.authorizations.iter().map(|(name, policy)| (name.clone(), authorization(policy)));
    json!({"addresses": addresses.collect::<Map<_, _>>(), "authorizations": policies.collect::<Map<_, _>>()})
}

fn workload(one: &Workload) -> Value {
    let services = one.services.iter().map(|(name, ports)| (name.clone(), Value::from(list(&ports.ports, port))));
    let mut fields = Fields::default();
    fields.text("uid", &one.uid).text("name", &one.name).text("namespace", &one.namespace);
    fields.list("addresses", list(&one.addresses, |octets| ip(octets)));
    fields.text("hostname", &one.hostname).text("network", &one.network);
    fields.choice(
        "tunnelProtocol",
        workload::TunnelProtocol::try_from(one.tunnel_protocol).unwrap().as_str_name(),
        "NONE",
    );
    fields.text("trustDomain", &one.trust_domain).text("serviceAccount", &one.service_account).text("node", &one.node);
    fields.text("canonicalName", &one.canonical_name).text("canonicalRevision", &one.canonical_revision);
    fields.choice(
        "workloadType",
        workload::WorkloadType::try_from(one.workload_type).unwrap().as_str_name(),
        "DEPLOYMENT",
    );
    fields.text("workloadName", &one.workload_name).flag("nativeTunnel", one.native_tunnel);
    fields.list("authorizationPolicies", list(&one.authorization_policies, |key| json!(key)));
    fields.choice("status", workload::WorkloadStatus::try_from(one.status).unwrap().as_str_name(), "HEALTHY");
    fields.text("clusterId", &one.cluster_id);
    fields.object("services", services.collect());
    fields.object("locality", one.locality.as_ref().map(locality).unwrap_or_default());
    fields.choice("networkMode", workload::NetworkMode::try_from(one.network_mode).unwrap().as_str_name(), "STANDARD");
    fields.text("waypoint", &one.waypoint.as_ref().map(gateway).unwrap_or_default());
    fields.text("networkGateway", &one.network_gateway.as_ref().map(gateway).unwrap_or_default());
    if let Some(tunnel) = &one.application_tunnel {
        let protocol = workload::application_tunnel::Protocol::try_from(tunnel.protocol).unwrap().as_str_name();
        fields.text("applicationTunnel", &format!("{protocol}/{}", tunnel.port));
    }
    if let Some(capacity) = one.capacity {
        fields.0.insert("capacity".to_owned(), json!(capacity));
    }
    assert!(one.extensions.is_empty(), "render what is derived");
    fields.done()
}

fn service(one: &Service) -> Value {
    let mut fields = Fields::default();
    fields.text("name", &one.name).text("namespace", &one.namespace).text("hostname", &one.hostname);
    let vip = |vip: &workload::NetworkAddress| {
        let length = vip.length.map(|length| format!("/{length}")).unwrap_or_default();
        json!(format!("{}/{}{length}", vip.network, ip(&vip.address).as_str().unwrap()))
    };
    fields.list("addresses", list(&one.addresses, vip));
    fields.list("ports", list(&one.ports, port));
    if let Some(balancing) = &one.load_balancing {
        let scope = |scope: &i32| json!(load_balancing::Scope::try_from(*scope).unwrap().as_str_name());
        let mut inner = Fields::default();
        inner.list("routingPreference", list(&balancing.routing_preference, scope));
        inner.choice("mode", load_balancing::Mode::try_from(balancing.mode).unwrap().as_str_name(), "UNSPECIFIED_MODE");
        let health = load_balancing::HealthPolicy::try_from(balancing.health_policy).unwrap();
        inner.choice("healthPolicy", health.as_str_name(), "ONLY_HEALTHY");
        fields.object("loadBalancing", inner.0);
    }
    fields.choice("ipFamilies", workload::IpFamilies::try_from(one.ip_families).unwrap().as_str_name(), "AUTOMATIC");
    fields.text("waypoint", &one.waypoint.as_ref().map(gateway).unwrap_or_default());
    let weighted = |one: &workload::WeightedWaypoint| {
        json!(format!("{} {}%", gateway(one.destination.as_ref().unwrap()), one.weight))
    };
    fields.list("weightedWaypoints", list(&one.weighted_waypoints, weighted));
    fields.list("subjectAltNames", list(&one.subject_alt_names, |name| json!(name)));
    fields.choice(
        "visibility",
        workload::service::Visibility::try_from(one.visibility).unwrap().as_str_name(),
        "PUBLIC",
    );
    fields.flag("canonical", one.canonical).flag("ingressUseWaypoint", one.ingress_use_waypoint);
    fields.done()
}

fn gateway(one: &workload::GatewayAddress) -> String {
    let place = match one.destination.as_ref().unwrap() {
        gateway_address::Destination::Hostname(name) => format!("{}/{}", name.namespace, name.hostname),
        gateway_address::Destination::Address(at) => format!("{}/{}", at.network, ip(&at.address).as_str().unwrap()),
    };
    format!("{place}:{}", one.hbone_mtls_port)
}

fn port(one: &Port) -> Value {
    let protocol = workload::AppProtocol::try_from(one.app_protocol).unwrap().as_str_name();
    let protocol = if protocol == "UNKNOWN" { String::new() } else { format!(" {protocol}") };
    json!(format!("{} -> {}{protocol}", one.service_port, one.target_port))
}

fn locality(one: &Locality) -> Map<String, Value> {
    let mut fields = Fields::default();
    fields.text("region", &one.region).text("zone", &one.zone).text("subzone", &one.subzone);
    fields.0
}

fn authorization(one: &Authorization) -> Value {
    let clause = |clause: &security::Clause| Value::from(list(&clause.matches, one_match));
    let mut fields = Fields::default();
    fields.text("scope", security::Scope::try_from(one.scope).unwrap().as_str_name());
    fields.text("action", security::Action::try_from(one.action).unwrap().as_str_name());
    fields.flag("dryRun", one.dry_run);
    let rules = list(&one.rules, |rule| Value::from(list(&rule.clauses, clause)));
    fields.0.insert("rules".to_owned(), rules.into());
    fields.done()
}

fn one_match(one: &Match) -> Value {
    let text = |one: &StringMatch| match one.match_type.as_ref().unwrap() {
        string_match::MatchType::Exact(text) => json!(text),
        string_match::MatchType::Prefix(text) => json!({"prefix": text}),
        string_match::MatchType::Suffix(text) => json!({"suffix": text}),
        string_match::MatchType::Presence(()) => json!({"presence": {}}),
    };
    let range = |one: &security::Address| json!(format!("{}/{}", ip(&one.address).as_str().unwrap(), one.length));
    let account = |one: &security::ServiceAccountMatch| json!(format!("{}/{}", one.namespace, one.service_account));
    let mut fields = Fields::default();
    fields.list("namespaces", list(&one.namespaces, text)).list("notNamespaces", list(&one.not_namespaces, text));
    fields.list("principals", list(&one.principals, text)).list("notPrincipals", list(&one.not_principals, text));
    fields.list("sourceIps", list(&one.source_ips, range)).list("notSourceIps", list(&one.not_source_ips, range));
    fields.list("destinationIps", list(&one.destination_ips, range));
    fields.list("notDestinationIps", list(&one.not_destination_ips, range));
    fields.list("destinationPorts", list(&one.destination_ports, |port| json!(port)));
    fields.list("notDestinationPorts", list(&one.not_destination_ports, |port| json!(port)));
    fields.list("serviceAccounts", list(&one.service_accounts, account));
    fields.list("notServiceAccounts", list(&one.not_service_accounts, account));
    fields.done()
}

fn ip(octets: &[u8]) -> Value {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    json!(v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).unwrap().to_string())
}

fn list<T>(items: &[T], render: impl Fn(&T) -> Value) -> Vec<Value> {
    items.iter().map(render).collect()
}

/// Collects what is not a default.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.choice(name, text, "")
    }

    fn choice(&mut self, name: &str, text: &str, default: &str) -> &mut Self {
        if text != default {
            self.0.insert(name.to_owned(), json!(text));
        }
        self
    }

    fn flag(&mut self, name: &str, is_set: bool) -> &mut Self {
        if is_set {
            self.0.insert(name.to_owned(), json!(true));
        }
        self
    }

    fn list(&mut self, name: &str, items: Vec<Value>) -> &mut Self {
        if !items.is_empty() {
            self.0.insert(name.to_owned(), items.into());
        }
        self
    }

    fn object(&mut self, name: &str, fields: Map<String, Value>) -> &mut Self {
        if !fields.is_empty() {
            self.0.insert(name.to_owned(), fields.into());
        }
        self
    }

    fn done(self) -> Value {
        self.0.into()
    }
}
