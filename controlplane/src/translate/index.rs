//! Objects arranged for the questions that derivations ask.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kinds::labels;
use kinds::{AuthorizationPolicy, PeerAuthentication, ServiceEntry};
use proto::istio::security::Authorization;
use proto::istio::workload::Locality;

use super::hosts::Hosts;
use super::network_gateway::NetworkGateways;
use super::waypoint::Waypoints;
use super::{Options, authorization, peer_authentication};
use crate::checked::Checked;
use crate::objects::{Named, Objects};

type Labels = BTreeMap<String, String>;

/// A view on the objects of one moment.
pub(super) struct Index<'a> {
    pub(super) options: &'a Options,
    objects: &'a Objects,
    /// The network of the cluster; empty for the default one.
    pub(super) network: String,
    /// Every network that nodes of the cluster are in, its own first: the addresses of Services are valid in each.
    pub(super) networks: Vec<String>,
    networks_of_nodes: HashMap<&'a str, &'a str>,
    pub(super) network_gateways: NetworkGateways,
    localities: HashMap<&'a str, Locality>,
    services: HashMap<&'a str, ServicesOf<'a>>,
    /// ServiceEntries that select their endpoints, by namespace.
    entries: HashMap<&'a str, Vec<&'a Checked<ServiceEntry>>>,
    pub(super) hosts: Hosts<'a>,
    /// Slices with endpoints of this pod that no selector made, by namespace and pod.
    slices_of_pods: HashMap<&'a str, HashMap<&'a str, Vec<&'a EndpointSlice>>>,
    pub(super) waypoints: Waypoints<'a>,
    peer_authentications: peer_authentication::Effective<'a>,
    /// Policies that apply by label, by namespace; those of the root namespace apply in each.
    selecting: HashMap<&'a str, Vec<(&'a Checked<AuthorizationPolicy>, String)>>,
    authorizations: Vec<Authorization>,
}

/// The Services of one namespace, by one label of their selector.
#[derive(Default)]
struct ServicesOf<'a> {
    by_label: HashMap<&'a str, HashMap<&'a str, Vec<&'a Service>>>,
}

impl<'a> Index<'a> {
    pub(super) fn new(objects: &'a Objects, options: &'a Options) -> Self {
        let mut index = Self {
            options,
            objects,
            network: network(objects, options),
            networks: Vec::new(),
            networks_of_nodes: HashMap::new(),
            network_gateways: NetworkGateways::new(objects, options),
            localities: objects.nodes.iter().map(|node| (node.name(), locality(node.as_ref()))).collect(),
            services: HashMap::new(),
            entries: HashMap::new(),
            hosts: Hosts::new(objects, options),
            slices_of_pods: HashMap::new(),
            waypoints: Waypoints::new(objects, network(objects, options)),
            peer_authentications: peer_authentication::Effective::new(objects, &options.root_namespace),
            selecting: HashMap::new(),
            authorizations: Vec::new(),
        };
        index.add_networks();
        index.add_services();
        index.add_entries();
        index.add_slices();
        index.add_policies();
        index
    }

    /// The locality of a node; `None` if it is unknown or says nothing.
    pub(super) fn locality(&self, node: &str) -> Option<Locality> {
        self.localities.get(node).filter(|locality| **locality != Locality::default()).cloned()
    }

    /// The network of the pods of a node.
    pub(super) fn network_of_node(&self, node: &str) -> &str {
        self.networks_of_nodes.get(node).copied().unwrap_or(&self.network)
    }

    pub(super) fn namespace(&self, name: &str) -> Option<&'a Namespace> {
        self.objects.namespaces.get("", name).map(Arc::as_ref)
    }

    pub(super) fn service(&self, namespace: &str, name: &str) -> Option<&'a Service> {
        self.objects.services.get(namespace, name).map(Arc::as_ref)
    }

    /// The Services of the namespace whose selector these labels meet.
    pub(super) fn services_selecting(&self, namespace: &str, labels: &Labels) -> Vec<&'a Service> {
        let Some(services) = self.services.get(namespace) else { return Vec::new() };
        let candidates = labels.iter().flat_map(|(key, value)| {
            let by_value = services.by_label.get(key.as_str());
            by_value.and_then(|by_value| by_value.get(value.as_str())).into_iter().flatten().copied()
        });
        candidates
            .filter(|service| selector(service).iter().all(|(key, value)| labels.get(key) == Some(value)))
            .collect()
    }

    /// The ServiceEntries of the namespace whose selector these labels meet.
    pub(super) fn entries_selecting(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> impl Iterator<Item = &'a Checked<ServiceEntry>> {
        let entries = self.entries.get(namespace).into_iter().flatten().copied();
        entries.filter(move |entry| {
            let mut wanted = entry.object.spec.selected().into_iter().flat_map(|selector| &selector.labels);
            wanted.all(|(key, value)| labels.get(key) == Some(value))
        })
    }

    /// Slices that list the pod as an endpoint of a Service without selector.
    pub(super) fn slices_of_pod(&self, namespace: &str, pod: &str) -> &[&'a EndpointSlice] {
        self.slices_of_pods.get(namespace).and_then(|pods| pods.get(pod)).map_or(&[], Vec::as_slice)
    }

    /// The keys of the policies that a workload has to name.
    pub(super) fn policies_of(&self, namespace: &str, labels: &Labels) -> Vec<String> {
        let own = self.selecting.get(namespace).into_iter().flatten();
        let root = self.options.root_namespace.as_str();
        let of_root = (namespace != root).then(|| self.selecting.get(root)).flatten().into_iter().flatten();
        let selected = own
            .chain(of_root)
            .filter(|(policy, _)| policy.object.spec.selected().is_some_and(|selector| selector.matches(labels)));
        let mut keys: Vec<String> = selected.map(|(_, key)| key.clone()).collect();
        keys.sort_unstable();
        keys.extend(self.peer_authentications.keys_of(namespace, labels));
        keys
    }

    /// Every policy that is sent.
    pub(super) fn authorizations(self) -> impl Iterator<Item = Authorization> {
        let converted = self.peer_authentications.authorizations();
        self.authorizations.into_iter().chain(converted)
    }

    /// `<name>.<namespace>.svc.<cluster domain>`
    pub(super) fn hostname(&self, service: &Service) -> String {
        format!("{}.{}.svc.{}", service.name(), service.namespace(), self.options.cluster_domain)
    }

    fn add_networks(&mut self) {
        let labelled = |node: &'a Arc<Node>| Some((node.name(), node.label(labels::TOPOLOGY_NETWORK)?));
        self.networks_of_nodes = self.objects.nodes.iter().filter_map(labelled).collect();
        let mut others: Vec<&str> = self.networks_of_nodes.values().copied().collect();
        others.sort_unstable();
        others.dedup();
        let others = others.into_iter().filter(|network| *network != self.network).map(str::to_owned);
        self.networks = [self.network.clone()].into_iter().chain(others).collect();
    }

    fn add_services(&mut self) {
        for service in self.objects.services.iter() {
            // Any one label of the selector will do to find candidates; the rest is compared afterwards.
            if let Some((key, value)) = selector(service).iter().next()
                && !is_external_name(service)
            {
                let of_namespace = self.services.entry(service.namespace()).or_default();
                of_namespace.by_label.entry(key).or_default().entry(value).or_default().push(service);
            }
        }
    }

    fn add_entries(&mut self) {
        for entry in self.objects.service_entries.iter().filter(|entry| entry.object.spec.selected().is_some()) {
            self.entries.entry(entry.namespace()).or_default().push(entry);
        }
    }

    fn add_slices(&mut self) {
        for slice in self.objects.endpoint_slices.iter() {
            let service = slice.label(labels::SERVICE_NAME).and_then(|name| self.service(slice.namespace(), name));
            if !service.is_some_and(|service| selector(service).is_empty() && !is_external_name(service)) {
                continue;
            }
            for endpoint in slice.endpoints.iter().flatten() {
                let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
                if let Some(pod) = target.and_then(|target| target.name.as_deref()) {
                    let pods = self.slices_of_pods.entry(slice.namespace()).or_default();
                    pods.entry(pod).or_default().push(slice);
                }
            }
        }
    }

    fn add_policies(&mut self) {
        for policy in self.objects.authorization_policies.iter() {
            let Some(authorization) = authorization::derive(policy, self.options) else { continue };
            if policy.object.spec.selected().is_some() {
                let key = policy.key().to_string();
                self.selecting.entry(policy.namespace()).or_default().push((policy.as_ref(), key));
            }
            self.authorizations.push(authorization);
        }
    }
}

/// The labels that a Service selects by; none means that its endpoints come from elsewhere.
pub(super) fn selector(service: &Service) -> &Labels {
    static NONE: Labels = BTreeMap::new();
    service.spec.as_ref().and_then(|spec| spec.selector.as_ref()).unwrap_or(&NONE)
}

pub(super) fn is_external_name(service: &Service) -> bool {
    service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("ExternalName")
}

fn locality(node: &impl Named) -> Locality {
    let text = |key| node.label(key).unwrap_or_default().to_owned();
    Locality {
        region: text(labels::TOPOLOGY_REGION),
        zone: text(labels::TOPOLOGY_ZONE),
        subzone: text(labels::TOPOLOGY_SUBZONE),
    }
}

/// The network is a label of the root namespace, where other control planes look for it, or of our own.
fn network(objects: &Objects, options: &Options) -> String {
    let namespaces = [&options.root_namespace, &options.system_namespace];
    let mut networks =
        namespaces.into_iter().filter_map(|name| objects.namespaces.get("", name)?.label(labels::TOPOLOGY_NETWORK));
    networks.next().unwrap_or_default().to_owned()
}

/// The oldest of several objects that claim the same; equally old ones are taken in the order of their names.
pub(super) fn older<'a>(
    a: &'a Checked<PeerAuthentication>,
    b: &'a Checked<PeerAuthentication>,
) -> &'a Checked<PeerAuthentication> {
    let age = |policy: &Checked<PeerAuthentication>| {
        (policy.metadata().creation_timestamp.as_ref().map(|time| time.0), policy.key())
    };
    if age(b) < age(a) { b } else { a }
}
