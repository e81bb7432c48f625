//! The names of the cluster: Services and their endpoints as the DNS sees them.
//! [Kubernetes DNS specification](https://github.com/kubernetes/dns/blob/master/docs/specification.md).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// All names below the cluster's domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    namespaces: BTreeMap<String, BTreeMap<String, Entry>>,
}

/// One Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Entry {
    addresses: BTreeSet<IpAddr>,
    hosts: BTreeMap<String, BTreeSet<IpAddr>>,
    ports: Vec<Port>,
    alias: Option<String>,
}

/// A named port, for SRV records.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Port {
    name: String,
    protocol: String,
    number: u16,
}

/// What there is at a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing, and nothing below it.
    Nothing,
    /// The name exists: with these addresses, maybe none.
    Addresses(Vec<IpAddr>),
    /// A port of the Service with this name below the domain.
    Port { number: u16, target: Vec<String> },
    /// Another name.
    Alias(String),
}

impl Zone {
    /// The zone of these Services and slices. Headless Services have the addresses of their ready endpoints, or of all
    /// when they publish those that are not ready.
    pub(crate) fn new<'a>(
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Self {
        let mut zone = Self::default();
        let mut headless = BTreeSet::new();
        for service in services {
            let (Some(namespace), Some(name)) = (&service.metadata.namespace, &service.metadata.name) else { continue };
            let entry = Entry::of(service);
            if entry.addresses.is_empty() && entry.alias.is_none() {
                headless.insert((namespace.clone(), name.clone()));
            }
            zone.namespaces.entry(namespace.clone()).or_default().insert(name.clone(), entry);
        }
        for slice in slices {
            let Some(namespace) = &slice.metadata.namespace else { continue };
            let labels = slice.metadata.labels.as_ref();
            let Some(name) = labels.and_then(|labels| labels.get("kubernetes.io/service-name")) else { continue };
            if headless.contains(&(namespace.clone(), name.clone()))
                && let Some(entry) = zone.namespaces.get_mut(namespace).and_then(|services| services.get_mut(name))
            {
                entry.add_endpoints(slice);
            }
        }
        zone
    }

    /// Looks up the labels of a name without the cluster's domain, lower case, from left to right.
    pub(super) fn look_up(&self, labels: &[&str]) -> Found {
        let none = || Found::Addresses(Vec::new());
        match labels {
            [] | ["svc" | "pod"] => none(),
            [namespace, "svc" | "pod"] if self.namespaces.contains_key(*namespace) => none(),
            [address, namespace, "pod"] => self.pod(address, namespace),
            [rest @ .., service, namespace, "svc"] => {
                self.entry(namespace, service).map_or(Found::Nothing, |entry| entry.look_up(rest, service, namespace))
            }
            _ => Found::Nothing,
        }
    }

    fn entry(&self, namespace: &str, service: &str) -> Option<&Entry> {
        self.namespaces.get(namespace)?.get(service)
    }

    /// `10-244-1-2.shop.pod` and `fd00-a-1-1--2.shop.pod` are the addresses in the names, whether or not there are such
    /// pods.
    fn pod(&self, dashed: &str, namespace: &str) -> Found {
        let v4 = dashed.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
        match v4.or_else(|_| dashed.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)) {
            Ok(address) if self.namespaces.contains_key(namespace) => Found::Addresses(vec![address]),
            _ => Found::Nothing,
        }
    }
}

impl Entry {
    fn of(service: &Service) -> Self {
        let Some(spec) = &service.spec else { return Self::default() };
        if spec.type_.as_deref() == Some("ExternalName") {
            return Self { alias: spec.external_name.clone(), ..Self::default() };
        }
        let cluster_ips = spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip);
        let ports = spec.ports.iter().flatten().filter_map(|port| {
            Some(Port {
                name: port.name.clone()?,
                protocol: port.protocol.as_deref().unwrap_or("TCP").to_ascii_lowercase(),
                number: u16::try_from(port.port).ok()?,
            })
        });
        Self {
            addresses: cluster_ips.filter_map(|address| address.parse().ok()).collect(),
            ports: ports.collect(),
            ..Self::default()
        }
    }

    fn add_endpoints(&mut self, slice: &EndpointSlice) {
        for endpoint in slice.endpoints.iter().flatten() {
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            if !is_ready {
                continue;
            }
            let addresses = endpoint.addresses.iter().filter_map(|address| address.parse::<IpAddr>().ok());
            for address in addresses {
                self.addresses.insert(address);
                if let Some(host) = &endpoint.hostname {
                    self.hosts.entry(host.clone()).or_default().insert(address);
                }
            }
        }
    }

    /// What is at `rest` in front of the Service's own name.
    fn look_up(&self, rest: &[&str], service: &str, namespace: &str) -> Found {
        if let Some(alias) = &self.alias {
            return if rest.is_empty() { Found::Alias(alias.clone()) } else { Found::Nothing };
        }
        match rest {
            [] => Found::Addresses(self.addresses.iter().copied().collect()),
            [host] => match self.hosts.get(*host) {
                Some(addresses) => Found::Addresses(addresses.iter().copied().collect()),
                None if self.ports.iter().any(|port| *host == format!("_{}", port.protocol)) => {
                    Found::Addresses(Vec::new())
                }
                None => Found::Nothing,
            },
            [port, protocol] => {
                let found = self.ports.iter().find(|candidate| {
                    port.strip_prefix('_') == Some(candidate.name.as_str())
                        && protocol.strip_prefix('_') == Some(candidate.protocol.as_str())
                });
                found.map_or(Found::Nothing, |found| Found::Port {
                    number: found.number,
                    target: vec![service.to_owned(), namespace.to_owned(), "svc".to_owned()],
                })
            }
            _ => Found::Nothing,
        }
    }
}
