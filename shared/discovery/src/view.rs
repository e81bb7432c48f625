//! Reading what is known.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::watch;
use types::{NamespacedHostname, NetworkAddress, WorkloadUid, canonical_ip};

use crate::identities::IdentityChanges;
use crate::index::{Group, Index, List};
use crate::model::{LocalName, Service, Workload};

/// A cheap handle on what the [`Writer`](crate::Writer) has published; it always shows the present.
#[derive(Clone)]
pub struct View {
    pub(crate) index: Arc<Index>,
}

/// Who is at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resident {
    /// A workload has the address.
    Workload(Arc<Workload>),
    /// The address stands for a service.
    Service(Arc<Service>),
}

impl View {
    /// The network that this proxy is in.
    #[must_use]
    pub fn network(&self) -> &Arc<str> {
        &self.index.network
    }

    /// The node that this proxy serves; `None` when it serves any.
    #[must_use]
    pub fn node(&self) -> Option<&Arc<str>> {
        self.index.node.as_ref()
    }

    /// The workload with this uid.
    #[must_use]
    pub fn workload(&self, uid: &WorkloadUid) -> Option<Arc<Workload>> {
        self.index.workloads.pin().get(uid).cloned()
    }

    /// The workload with this address.
    ///
    /// Of several a pod wins, then one that is captured; those on the host's network are never found by address.
    #[must_use]
    pub fn workload_by_address(&self, address: &NetworkAddress) -> Option<Arc<Workload>> {
        self.index.addresses.pin().get(address).and_then(|workloads| workloads.first()).cloned()
    }

    /// The workload of this namespace that has this host name instead of addresses, the preferred one of several.
    #[must_use]
    pub fn workload_by_hostname(&self, key: &NamespacedHostname) -> Option<Arc<Workload>> {
        self.index.named.pin().get(key).and_then(|workloads| workloads.first()).cloned()
    }

    /// The service with this key.
    #[must_use]
    pub fn service(&self, key: &NamespacedHostname) -> Option<Arc<Service>> {
        self.index.groups.pin().get(key).and_then(|group| group.service.clone())
    }

    /// The workloads that name the service, whether it is known or not, healthy or not, sorted by uid.
    ///
    /// Of a known service [`Service::accepts`] tells which of them may be chosen.
    #[must_use]
    pub fn endpoints(&self, key: &NamespacedHostname) -> Arc<[Arc<Workload>]> {
        self.group(key).map_or_else(List::default, |group| Arc::clone(&group.endpoints))
    }

    /// The service at a virtual address, as a client of this namespace sees it.
    ///
    /// Among the visible services that have exactly this address, the client's own namespace wins, then the canonical
    /// one. If there is none, ranges are asked: the client's own namespace, then the longest prefix, then canonical.
    /// What is left of a tie goes to the smallest key: unlike the order of arrival, all proxies agree on that.
    #[must_use]
    pub fn service_by_vip(&self, network: &Arc<str>, ip: IpAddr, client: Option<&str>) -> Option<Arc<Service>> {
        let ip = canonical_ip(ip);
        let address = NetworkAddress { network: Arc::clone(network), address: ip };
        let vips = self.index.vips.pin();
        if let Some(service) = vips.get(&address).and_then(|services| best(services.iter(), client, None)) {
            return Some(Arc::clone(service));
        }
        let ranges = self.index.ranges.pin();
        let candidates = ranges.get(network)?.iter();
        let candidates = candidates.filter(|(cidr, service)| cidr.contains(ip) && service.is_visible_to(client));
        let rank = |cidr: &types::Cidr, service: &Service| {
            (client == Some(&*service.namespace), cidr.length(), service.is_canonical)
        };
        first_max(candidates, |(cidr, service)| rank(cidr, service)).map(|(_, service)| Arc::clone(service))
    }

    /// The service with this host name, as a client of this namespace sees it.
    ///
    /// The client's own namespace wins, then the canonical service, then the `preferred` namespace, then the smallest
    /// key. Host names are compared without regard to case.
    #[must_use]
    pub fn service_by_hostname(
        &self,
        hostname: &str,
        client: Option<&str>,
        preferred: Option<&str>,
    ) -> Option<Arc<Service>> {
        self.service_by_hostname_if(hostname, client, preferred, |_any| true)
    }

    /// [`View::service_by_hostname`] among the services that `is_candidate` lets pass.
    #[must_use]
    pub fn service_by_hostname_if(
        &self,
        hostname: &str,
        client: Option<&str>,
        preferred: Option<&str>,
        is_candidate: impl Fn(&Service) -> bool,
    ) -> Option<Arc<Service>> {
        let hosts = self.index.hosts.pin();
        let services = match hostname.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => hosts.get(hostname.to_ascii_lowercase().as_str())?,
            false => hosts.get(hostname)?,
        };
        best(services.iter().filter(|service| is_candidate(service)), client, preferred).cloned()
    }

    /// Who is at an address, as a client of this namespace sees it: a workload before a service.
    #[must_use]
    pub fn resident(&self, network: &Arc<str>, ip: IpAddr, client: Option<&str>) -> Option<Resident> {
        let address = NetworkAddress { network: Arc::clone(network), address: canonical_ip(ip) };
        if let Some(workload) = self.workload_by_address(&address) {
            return Some(Resident::Workload(workload));
        }
        self.service_by_vip(network, ip, client).map(Resident::Service)
    }

    /// The workload of the own node with this name; of any node when the proxy serves any.
    #[must_use]
    pub fn find_local(&self, name: &LocalName) -> Option<Arc<Workload>> {
        self.index.local.pin().get(name).and_then(|workloads| workloads.first()).cloned()
    }

    /// Waits for a workload of the own node to become known.
    ///
    /// The deadline is a future, so that this crate needs no clock: `tokio::time::sleep(limit)` for instance.
    /// `None` when it has passed, or when the [`Writer`](crate::Writer) is gone and nothing can come any more.
    pub async fn wait_local(&self, name: &LocalName, deadline: impl Future<Output = ()>) -> Option<Arc<Workload>> {
        let mut changes = self.index.local_version.clone();
        let found = async {
            loop {
                changes.mark_unchanged();
                if let Some(workload) = self.find_local(name) {
                    return Some(workload);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::select! {
            biased;
            found = found => found,
            () = deadline => None,
        }
    }

    /// A counter that grows with every published change.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.index.version.clone()
    }

    /// The identities of the own node that need certificates, as they come and go.
    ///
    /// An identity counts while a workload with it is captured or ends HBONE itself.
    /// A proxy that serves any node has none: it cannot know which are its own.
    #[must_use]
    pub fn local_identities(&self) -> IdentityChanges {
        IdentityChanges::new(self.index.identities.clone())
    }

    /// All workloads, sorted by uid.
    #[must_use]
    pub fn workloads(&self) -> Vec<Arc<Workload>> {
        let mut workloads: Vec<_> = self.index.workloads.pin().values().cloned().collect();
        workloads.sort_by(|left, right| left.uid.cmp(&right.uid));
        workloads
    }

    /// All services, sorted by key.
    #[must_use]
    pub fn services(&self) -> Vec<Arc<Service>> {
        let mut services: Vec<_> = self.index.groups.pin().values().filter_map(|group| group.service.clone()).collect();
        services.sort_by(|left, right| crate::index::by_key(left, right));
        services
    }

    /// Keys of services that workloads name but nobody has defined, sorted.
    #[must_use]
    pub fn staged_services(&self) -> Vec<NamespacedHostname> {
        let groups = self.index.groups.pin();
        let staged = groups.iter().filter(|(_, group)| group.service.is_none());
        let mut staged: Vec<_> = staged.map(|(key, _)| key.clone()).collect();
        staged.sort();
        staged
    }

    pub(crate) fn group(&self, key: &NamespacedHostname) -> Option<Arc<Group>> {
        self.index.groups.pin().get(key).cloned()
    }

    /// Every service that an address stands for, exactly or in a range, whoever may see it.
    pub(crate) fn services_at(&self, address: &NetworkAddress) -> Vec<Arc<Service>> {
        let (vips, ranges) = (self.index.vips.pin(), self.index.ranges.pin());
        let exact = vips.get(address).into_iter().flat_map(|services| services.iter());
        let ranges = ranges.get(&address.network).into_iter().flat_map(|ranges| ranges.iter());
        let around = ranges.filter(|(cidr, _)| cidr.contains(address.address)).map(|(_, service)| service);
        exact.chain(around).cloned().collect()
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").field("network", &self.index.network).field("node", &self.index.node).finish()
    }
}

fn best<'a>(
    services: impl Iterator<Item = &'a Arc<Service>>,
    client: Option<&str>,
    preferred: Option<&str>,
) -> Option<&'a Arc<Service>> {
    let visible = services.filter(|service| service.is_visible_to(client));
    first_max(visible, |service| {
        let namespace = Some(&*service.namespace);
        (client == namespace, service.is_canonical, preferred.is_some() && preferred == namespace)
    })
}

/// The first of those with the highest rank; `Iterator::max_by_key` gives the last.
fn first_max<T: Copy, K: Ord>(items: impl Iterator<Item = T>, rank: impl Fn(&T) -> K) -> Option<T> {
    items.reduce(|best, item| if rank(&item) > rank(&best) { item } else { best })
}

#[cfg(test)]
mod tests;
