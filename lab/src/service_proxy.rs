//! Service addresses for whoever is not captured by the mesh: translation rules in each node's network namespace.
//!
//! [`tables`] is a pure function from Services and EndpointSlices to rules, a table for each address family; [`install`]
//! puts them into the current namespace in one batch.
//! Absent on purpose: node ports, session affinity, traffic policies.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use linux::Prefix;
use linux::nft::{self, Base, Chain, ChainKind, Change, Hook, Relation, Rule, Statement, Table, Transport};

use crate::families::{Families, Family};

/// Name of the table.
const TABLE: &str = "aquifer-services";

/// Name of the chain that finds the Service of a destination.
const SERVICES: &str = "services";

/// Where destinations are translated: `dstnat` of nft(8).
const TRANSLATE_DESTINATION: i32 = -100;

/// Where sources are translated: `srcnat` of nft(8).
const TRANSLATE_SOURCE: i32 = 100;

/// One port of one Service address, and who is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frontend {
    /// `namespace/name:port`, for people.
    pub(crate) name: String,
    /// One of the Service's addresses.
    pub(crate) address: IpAddr,
    /// TCP or UDP.
    pub(crate) transport: Transport,
    /// The Service's port.
    pub(crate) port: u16,
    /// Ready endpoints of the address's family, sorted.
    pub(crate) backends: BTreeSet<(IpAddr, u16)>,
}

/// The frontends of all Services with cluster addresses, sorted by namespace, name, port and address.
pub(crate) fn frontends(services: &[Service], slices: &[EndpointSlice]) -> Vec<Frontend> {
    let mut by_service: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        let name = labels.and_then(|labels| labels.get("kubernetes.io/service-name"));
        if let (Some(namespace), Some(name)) = (&slice.metadata.namespace, name) {
            by_service.entry((namespace, name)).or_default().push(slice);
        }
    }
    let mut found = Vec::new();
    for service in services {
        let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else { continue };
        let Some(spec) = &service.spec else { continue };
        let listed = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let addresses: BTreeSet<IpAddr> = listed.filter_map(|address| address.parse().ok()).collect();
        let slices = by_service.get(&(namespace.as_str(), name.as_str())).map(Vec::as_slice).unwrap_or_default();
        for port in spec.ports.iter().flatten() {
            let transport = match port.protocol.as_deref() {
                None | Some("TCP") => Transport::Tcp,
                Some("UDP") => Transport::Udp,
                Some(_) => continue,
            };
            let Ok(number) = u16::try_from(port.port) else { continue };
            let port_name = port.name.as_deref().unwrap_or_default();
            for address in &addresses {
                let all = slices.iter().flat_map(|slice| backends(slice, port_name));
                let backends = all.filter(|(backend, _)| Family::of(*backend) == Family::of(*address)).collect();
                let name = format!("{namespace}/{name}:{number}");
                found.push(Frontend { name, address: *address, transport, port: number, backends });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Ready endpoints of one slice for the Service port of that name.
fn backends(slice: &EndpointSlice, port_name: &str) -> Vec<(IpAddr, u16)> {
    let port = slice.ports.iter().flatten().find(|port| port.name.as_deref().unwrap_or_default() == port_name);
    let Some(Ok(number)) = port.and_then(|port| port.port).map(u16::try_from) else { return Vec::new() };
    let is_ready = |ready: Option<bool>| ready.unwrap_or(true);
    slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|conditions| conditions.ready)))
        .filter_map(|endpoint| endpoint.addresses.first()?.parse().ok())
        .map(|address| (address, number))
        .collect()
}

/// The rules for these frontends, a table for each of the lab's families.
pub(crate) fn tables(families: Families, frontends: &[Frontend]) -> Vec<Table> {
    let of = |family: &Family| {
        let own = frontends.iter().filter(|frontend| Family::of(frontend.address) == *family);
        table(*family, &own.collect::<Vec<_>>())
    };
    families.list().iter().map(of).collect()
}

fn table(family: Family, frontends: &[&Frontend]) -> Table {
    let family = match family {
        Family::V4 => nft::Family::Ip,
        Family::V6 => nft::Family::Ip6,
    };
    let mut table = Table::new(family, TABLE);
    let jump = || vec![Rule::new([Statement::Jump(SERVICES.to_owned())])];
    let at = |hook| Base::new(ChainKind::Nat, hook, TRANSLATE_DESTINATION);
    table.chains.push(Chain::at(at(Hook::Prerouting), "prerouting", jump()));
    table.chains.push(Chain::at(at(Hook::Output), "output", jump()));
    let source = Base::new(ChainKind::Nat, Hook::Postrouting, TRANSLATE_SOURCE);
    table.chains.push(Chain::at(source, "postrouting", hairpins(frontends)));
    for (name, hook) in [("refuse-forwarded", Hook::Forward), ("refuse-local", Hook::Output)] {
        table.chains.push(Chain::at(Base::new(ChainKind::Filter, hook, 0), name, refusals(frontends)));
    }
    let with_backends = || frontends.iter().copied().filter(|frontend| !frontend.backends.is_empty());
    let services: Vec<Rule> = with_backends()
        .map(|frontend| frontend.rule(Statement::Goto(frontend.chain_name())).with_comment(frontend.comment()))
        .collect();
    table.chains.push(Chain::new(SERVICES, services));
    table.chains.extend(with_backends().map(Frontend::chain));
    table
}

/// A pod that reaches itself through a Service must not see its own address as the source: it would answer itself.
fn hairpins(frontends: &[&Frontend]) -> Vec<Rule> {
    let addresses: BTreeSet<IpAddr> =
        frontends.iter().flat_map(|frontend| &frontend.backends).map(|(address, _)| *address).collect();
    let own = |address: &IpAddr| Prefix::host(*address);
    addresses
        .iter()
        .map(|address| {
            Rule::new([
                Statement::Source(Relation::Equal, own(address)),
                Statement::Destination(Relation::Equal, own(address)),
                Statement::Masquerade,
            ])
        })
        .collect()
}

/// A Service without endpoints refuses at once instead of leaving the client to time out.
fn refusals(frontends: &[&Frontend]) -> Vec<Rule> {
    frontends
        .iter()
        .filter(|frontend| frontend.backends.is_empty())
        .map(|frontend| {
            let verdict = match frontend.transport {
                Transport::Tcp => Statement::RejectWithReset,
                Transport::Udp => Statement::Drop,
            };
            frontend.rule(verdict).with_comment(format!("{} has no endpoints", frontend.comment()))
        })
        .collect()
}

impl Frontend {
    /// A rule for what is sent to this frontend.
    fn rule(&self, verdict: Statement) -> Rule {
        Rule::new([
            Statement::Destination(Relation::Equal, Prefix::host(self.address)),
            Statement::DestinationPort(self.transport, Relation::Equal, self.port),
            verdict,
        ])
    }

    fn chain_name(&self) -> String {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Udp => "udp",
        };
        // nft reads no colons in names.
        let address = self.address.to_string().replace(':', ".");
        format!("service-{address}-{transport}-{}", self.port)
    }

    /// Namespace and name hold 63 bytes each at most, so that a comment of 127 bytes needs cutting.
    fn comment(&self) -> String {
        self.name.chars().take(100).collect()
    }

    /// Each backend with the same probability: the first of n takes 1 in n, the next 1 in n - 1, the last the rest.
    fn chain(&self) -> Chain {
        let mut rules = Vec::new();
        let mut left = u32::try_from(self.backends.len()).unwrap_or(u32::MAX);
        for (address, port) in &self.backends {
            let to = Statement::DnatTo(SocketAddr::from((*address, *port)));
            let protocol = Statement::L4Protocol(self.transport);
            rules.push(match left {
                1 => Rule::new([protocol, to]),
                _ => Rule::new([protocol, Statement::RandomIs { modulus: left, value: 0 }, to]),
            });
            left -= 1;
        }
        Chain::new(self.chain_name(), rules)
    }
}

/// Replaces the rules of the current network namespace by those of `tables`.
///
/// # Errors
/// The kernel's, with the step that it refused.
pub(crate) fn install(tables: &[Table]) -> io::Result<()> {
    let changes: Vec<_> = tables.iter().cloned().map(Change::ReplaceTable).collect();
    nft::apply(&changes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn found() -> Vec<Frontend> {
        let services: Vec<Service> = serde_json::from_value(json!([
            {"metadata": {"name": "cart", "namespace": "shop"},
             "spec": {"clusterIP": "10.96.3.4", "clusterIPs": ["10.96.3.4", "fd00:a:2::304"], "ports": [
                {"name": "http", "port": 80, "protocol": "TCP"}, {"name": "dns", "port": 53, "protocol": "UDP"}]}},
            {"metadata": {"name": "db", "namespace": "shop"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}},
            {"metadata": {"name": "empty", "namespace": "shop"},
             "spec": {"clusterIPs": ["10.96.0.77", "fd00:a:2::4d"], "ports": [{"port": 9000}]}},
        ]))
        .unwrap();
        let slices: Vec<EndpointSlice> = serde_json::from_value(json!([
            {"metadata": {"name": "a", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
             "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353}],
             "endpoints": [{"addresses": ["10.244.2.2"]}, {"addresses": ["10.244.1.2"], "conditions": {"ready": true}},
                           {"addresses": ["10.244.1.3"], "conditions": {"ready": false}}]},
            {"metadata": {"name": "a6", "namespace": "shop", "labels": {"kubernetes.io/service-name": "cart"}},
             "addressType": "IPv6", "ports": [{"name": "http", "port": 8080}, {"name": "dns", "port": 5353}],
             "endpoints": [{"addresses": ["fd00:a:1:2::2"]}, {"addresses": ["fd00:a:1:1::2"]}]},
            {"metadata": {"name": "b", "namespace": "other", "labels": {"kubernetes.io/service-name": "cart"}},
             "addressType": "IPv4", "ports": [{"name": "http", "port": 1}], "endpoints": [{"addresses": ["10.244.1.9"]}]},
        ]))
        .unwrap();
        frontends(&services, &slices)
    }

    #[test]
    fn frontends_have_the_ready_endpoints_of_their_own_slices() {
        let found = found();
        let summary: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.transport, f.backends.len())).collect();
        assert_eq!(
            summary,
            [
                ("shop/cart:53", Transport::Udp, 2),
                ("shop/cart:53", Transport::Udp, 2),
                ("shop/cart:80", Transport::Tcp, 2),
                ("shop/cart:80", Transport::Tcp, 2),
                ("shop/empty:9000", Transport::Tcp, 0),
                ("shop/empty:9000", Transport::Tcp, 0)
            ]
        );
        for (index, expected) in [(2, ["10.244.1.2", "10.244.2.2"]), (3, ["fd00:a:1:1::2", "fd00:a:1:2::2"])] {
            let expected = expected.map(|address| (address.parse().unwrap(), 8080));
            assert_eq!(found.get(index).unwrap().backends, BTreeSet::from(expected));
        }
    }

    #[test]
    fn the_rules_are_the_documented_ones() {
        let tables = tables(Families::Dual, &found());
        let expected = [include_str!("service_proxy/expected.nft"), include_str!("service_proxy/expected-v6.nft")];
        for (table, expected) in tables.iter().zip(expected) {
            assert_eq!(table.to_string().trim(), expected.trim());
        }
        assert_eq!(tables.len(), expected.len());
    }

    #[test]
    fn each_backend_gets_the_same_share() {
        for count in 1..20_u16 {
            let frontend = Frontend {
                name: "a/b:1".to_owned(),
                address: LOCALHOST,
                transport: Transport::Tcp,
                port: 1,
                backends: (0..count).map(|port| (LOCALHOST, port)).collect(),
            };
            let mut reached = 1.0;
            for rule in frontend.chain().rules {
                let random = rule.statements.iter().find_map(|statement| match statement {
                    Statement::RandomIs { modulus, .. } => Some(f64::from(*modulus)),
                    _ => None,
                });
                let share = reached / random.unwrap_or(1.0);
                assert!((share - 1.0 / f64::from(count)).abs() < 1e-9);
                reached -= share;
            }
            assert!(reached.abs() < 1e-9, "nothing is left over");
        }
    }
}
