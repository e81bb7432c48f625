//! The state of a mesh as two sorted maps, and every question answered by going through all of it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use types::{Identity, NamespacedHostname, NetworkAddress, WorkloadUid};

use super::mesh::Update;
use crate::model::{Health, LocalName, Mode, NetworkMode, Protocol, Scope, Service, Visibility, Workload};

#[derive(Default)]
pub(super) struct Model {
    pub(super) workloads: BTreeMap<WorkloadUid, Workload>,
    pub(super) services: BTreeMap<NamespacedHostname, Service>,
}

impl Model {
    pub(super) fn apply(&mut self, update: &Update) {
        match update {
            Update::Workload(workload) => drop(self.workloads.insert(workload.uid.clone(), (**workload).clone())),
            Update::Service(service) => drop(self.services.insert(service.key(), (**service).clone())),
            Update::Remove(name) => {
                if self.workloads.remove(name.as_str()).is_none()
                    && let Ok(key) = name.parse::<NamespacedHostname>()
                {
                    self.services.remove(&key);
                }
            }
            Update::Publish => {}
        }
    }

    pub(super) fn endpoints(&self, key: &NamespacedHostname) -> Vec<WorkloadUid> {
        let endpoints = self.workloads.values().filter(|workload| workload.services.iter().any(|(own, _)| own == key));
        endpoints.map(|workload| workload.uid.clone()).collect()
    }

    pub(super) fn staged(&self) -> Vec<NamespacedHostname> {
        let named = self.workloads.values().flat_map(|workload| workload.services.iter()).map(|(key, _)| key.clone());
        let named: BTreeSet<_> = named.filter(|key| !self.services.contains_key(key)).collect();
        named.into_iter().collect()
    }

    pub(super) fn workload_at(&self, address: &NetworkAddress) -> Option<WorkloadUid> {
        let is_here = |workload: &&Workload| {
            workload.network == address.network
                && workload.network_mode == NetworkMode::Standard
                && workload.addresses.contains(&address.address)
        };
        best_workload(self.workloads.values().filter(is_here))
    }

    pub(super) fn local(&self, name: &LocalName) -> Option<WorkloadUid> {
        let is_meant = |workload: &&Workload| &*workload.node == "node-1" && workload.local_name() == *name;
        best_workload(self.workloads.values().filter(is_meant))
    }

    pub(super) fn service_at(&self, address: &NetworkAddress, client: Option<&str>) -> Option<NamespacedHostname> {
        let exact = self.visible(client).filter(|service| service.vips.contains(address));
        let exact = exact.min_by_key(|service| Reverse((Some(&*service.namespace) == client, service.is_canonical)));
        let ranges = self.visible(client).flat_map(|service| service.cidr_vips.iter().map(move |vip| (service, vip)));
        let ranges = ranges.filter(|(_, vip)| vip.network == address.network && vip.cidr.contains(address.address));
        let range = ranges.min_by_key(|(service, vip)| {
            Reverse((Some(&*service.namespace) == client, vip.cidr.length(), service.is_canonical))
        });
        exact.or_else(|| range.map(|(service, _)| service)).map(Service::key)
    }

    pub(super) fn service_named(&self, hostname: &str, client: Option<&str>) -> Option<NamespacedHostname> {
        let named = self.visible(client).filter(|service| service.hostname.as_str() == hostname);
        named.min_by_key(|found| Reverse((Some(&*found.namespace) == client, found.is_canonical))).map(Service::key)
    }

    pub(super) fn identities(&self) -> BTreeSet<Identity> {
        let here = self.workloads.values().filter(|workload| &*workload.node == "node-1");
        let tunnelled = here.filter(|workload| workload.protocol == Protocol::Hbone || workload.native_tunnel);
        tunnelled.map(Workload::identity).collect()
    }

    /// In the order of keys, of which `min_by_key` takes the first.
    fn visible(&self, client: Option<&str>) -> impl Iterator<Item = &Service> {
        let is_visible = move |service: &&Service| {
            service.visibility == Visibility::Public || client.is_none_or(|client| *client == *service.namespace)
        };
        self.services.values().filter(is_visible)
    }
}

fn best_workload<'a>(workloads: impl Iterator<Item = &'a Workload>) -> Option<WorkloadUid> {
    let points = |workload: &Workload| {
        let pod = if workload.uid.as_str().contains("//Pod/") { 4 } else { 0 };
        let hbone = if workload.protocol == Protocol::Hbone { 2 } else { 0 };
        pod + hbone + i32::from(workload.health == Health::Healthy)
    };
    workloads.min_by_key(|workload| -points(workload)).map(|workload| workload.uid.clone())
}

/// How near an endpoint is; `None` if it is out of scope.
pub(super) fn rank(service: &Service, source: &Workload, endpoint: &Workload) -> Option<usize> {
    let Some(wishes) = &service.load_balancing else { return Some(0) };
    let same: Vec<bool> = wishes.routing_preference.iter().map(|scope| is_same(*scope, source, endpoint)).collect();
    let in_order = |same: &[bool]| same.iter().take_while(|same| **same).count();
    match (wishes.mode, wishes.routing_preference.as_slice()) {
        (Mode::Standard | Mode::Passthrough, _) => Some(0),
        (Mode::Strict, _) if same.contains(&false) => None,
        (_, [Scope::Network, ..]) if same[0] => Some(same.len() + in_order(&same[1..])),
        (_, [Scope::Network, ..]) => Some(in_order(&same[1..])),
        _ => Some(in_order(&same)),
    }
}

fn is_same(scope: Scope, source: &Workload, endpoint: &Workload) -> bool {
    let text = |workload: &Workload| match scope {
        Scope::Region => workload.locality.region.to_string(),
        Scope::Zone => workload.locality.zone.to_string(),
        Scope::Subzone => workload.locality.subzone.to_string(),
        Scope::Node => workload.node.to_string(),
        Scope::Cluster => workload.cluster_id.to_string(),
        Scope::Network => workload.network.to_string(),
    };
    text(source) == text(endpoint)
}
