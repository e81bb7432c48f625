//! Putting workloads and services where readers find them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use tokio::sync::watch;
use types::{Hostname, Identity, NamespacedHostname, NetworkAddress, WorkloadUid};

use crate::index::{self, Group, Index};
use crate::model::{Service, Workload};

/// The half of a [`Writer`](super::Writer) that knows places, and not how what is put there was made.
pub(super) struct Indexer {
    pub(super) index: Arc<Index>,
    /// Endpoints to add (or replace) and to take out of services when the batch ends.
    endpoints: HashMap<NamespacedHostname, Vec<EndpointChange>, foldhash::quality::RandomState>,
    /// How many workloads of the own node need a certificate for each identity.
    identities: BTreeMap<Identity, usize>,
    has_changed: bool,
    has_local_changed: bool,
    have_identities_changed: bool,
    version: watch::Sender<u64>,
    local_version: watch::Sender<u64>,
    published_identities: watch::Sender<Arc<BTreeSet<Identity>>>,
}

/// An endpoint to add or replace, or to take out.
type EndpointChange = (WorkloadUid, Option<Arc<Workload>>);

impl Indexer {
    pub(super) fn new(network: Arc<str>, node: Option<Arc<str>>) -> Self {
        let (version, version_seen) = watch::channel(0);
        let (local_version, local_version_seen) = watch::channel(0);
        let (published_identities, identities_seen) = watch::channel(Arc::default());
        let index = Index {
            network,
            node,
            workloads: index::HashMap::default(),
            addresses: index::HashMap::default(),
            named: index::HashMap::default(),
            local: index::HashMap::default(),
            groups: index::HashMap::default(),
            vips: index::HashMap::default(),
            ranges: index::HashMap::default(),
            hosts: index::HashMap::default(),
            version: version_seen,
            local_version: local_version_seen,
            identities: identities_seen,
        };
        Self {
            index: Arc::new(index),
            endpoints: HashMap::default(),
            identities: BTreeMap::new(),
            has_changed: false,
            has_local_changed: false,
            have_identities_changed: false,
            version,
            local_version,
            published_identities,
        }
    }

    /// Says how many workloads and services come next: room for them is made once.
    pub(super) fn reserve(&self, resources: usize) {
        // The maps keep a quarter of what they are asked for free; they would find room for all but twice as much.
        let resources = resources - resources / 4;
        let (workloads, addresses) = (self.index.workloads.pin(), self.index.addresses.pin());
        // Nothing is asked for where there is enough: a map that is asked for no more room at all makes its usual reserve
        // anew, and moves everything into it.
        if resources > workloads.len() {
            workloads.reserve(resources - workloads.len());
        }
        if resources > addresses.len() {
            addresses.reserve(resources - addresses.len());
        }
    }

    /// Adds a workload, whose parts must be shared copies already, or replaces the one with the same uid.
    pub(super) fn put_workload(&mut self, new: &Arc<Workload>) {
        let workloads = self.index.workloads.pin();
        let old = match workloads.try_insert(new.uid.clone(), Arc::clone(new)) {
            Ok(_new) => None,
            Err(occupied) if occupied.current == new => return,
            Err(occupied) => {
                let old = Arc::clone(occupied.current);
                workloads.insert(new.uid.clone(), Arc::clone(new));
                Some(old)
            }
        };
        drop(workloads);
        self.index_workload(&new.uid, old.as_ref(), Some(new));
    }

    /// Whether there was a workload with this uid.
    pub(super) fn remove_workload(&mut self, uid: &WorkloadUid) -> bool {
        let old = self.index.workloads.pin().remove(uid).cloned();
        if old.is_some() {
            self.index_workload(uid, old.as_ref(), None);
        }
        old.is_some()
    }

    fn index_workload(&mut self, uid: &WorkloadUid, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        self.has_changed = true;
        self.index_addresses(uid, old, new);
        self.index_name(uid, old, new);
        self.index_local(uid, old, new);
        self.count_identity(old, new);
        self.index_endpoint(uid, old, new);
    }

    /// New places are filled before old ones are left, so that a reader always finds the workload somewhere.
    fn index_addresses(&self, uid: &WorkloadUid, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let put = |address: NetworkAddress, workload: Option<&Arc<Workload>>| {
            let order = |left: &Arc<Workload>, right: &Arc<Workload>| index::prefer(left, right);
            index::put(&self.index.addresses, address, |other| other.uid == *uid, order, workload.cloned());
        };
        let addresses = |workload: &Arc<Workload>| workload.indexed_addresses().collect::<BTreeSet<_>>();
        new.into_iter().flat_map(|new| new.indexed_addresses()).for_each(|address| put(address, new));
        if let Some(old) = old {
            let taken = new.map(addresses).unwrap_or_default();
            addresses(old).into_iter().filter(|left| !taken.contains(left)).for_each(|left| put(left, None));
        }
    }

    fn index_name(&self, uid: &WorkloadUid, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let (left, taken) = (old.and_then(|old| old.named()), new.and_then(|new| new.named()));
        let put = |name, workload| {
            let order = |left: &Arc<Workload>, right: &Arc<Workload>| index::prefer(left, right);
            index::put(&self.index.named, name, |other| other.uid == *uid, order, workload);
        };
        let is_elsewhere = left != taken;
        if let Some(name) = taken {
            put(name, new.cloned());
        }
        if let Some(name) = left.filter(|_| is_elsewhere) {
            put(name, None);
        }
    }

    fn index_local(&mut self, uid: &WorkloadUid, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let name = |workload: Option<&Arc<Workload>>| {
            workload.filter(|workload| self.is_local(workload)).map(|workload| workload.local_name())
        };
        let (left, taken) = (name(old), name(new));
        let put = |name, workload| {
            let order = |left: &Arc<Workload>, right: &Arc<Workload>| index::prefer(left, right);
            index::put(&self.index.local, name, |other| other.uid == *uid, order, workload);
        };
        let is_elsewhere = left != taken;
        let is_touched = left.is_some() || taken.is_some();
        if let Some(name) = taken {
            put(name, new.cloned());
        }
        if let Some(name) = left.filter(|_| is_elsewhere) {
            put(name, None);
        }
        self.has_local_changed |= is_touched;
    }

    fn index_endpoint(&mut self, uid: &WorkloadUid, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let mut change = |key: &NamespacedHostname, endpoint| {
            let change = (uid.clone(), endpoint);
            match self.endpoints.get_mut(key) {
                Some(changes) => changes.push(change),
                None => drop(self.endpoints.insert(key.clone(), vec![change])),
            }
        };
        old.into_iter().flat_map(|old| old.services.iter()).for_each(|(key, _ports)| change(key, None));
        new.into_iter().flat_map(|new| new.services.iter()).for_each(|(key, _ports)| change(key, new.cloned()));
    }

    fn is_local(&self, workload: &Workload) -> bool {
        self.index.node.as_ref().is_none_or(|node| *node == workload.node)
    }

    fn count_identity(&mut self, old: Option<&Arc<Workload>>, new: Option<&Arc<Workload>>) {
        let identity = |workload: Option<&Arc<Workload>>| {
            let is_own = |workload: &&Arc<Workload>| {
                self.index.node.is_some() && self.is_local(workload) && workload.needs_certificate()
            };
            workload.filter(is_own).map(|workload| workload.identity())
        };
        let (left, taken) = (identity(old), identity(new));
        if left == taken {
            return;
        }
        if let Some(identity) = taken {
            let count = self.identities.entry(identity).or_insert(0);
            *count += 1;
            self.have_identities_changed |= *count == 1;
        }
        if let Some(identity) = left
            && let Some(count) = self.identities.get_mut(&identity)
        {
            *count -= 1;
            if *count == 0 {
                self.identities.remove(&identity);
                self.have_identities_changed = true;
            }
        }
    }

    /// Adds, replaces or removes the service under a key; its parts must be shared copies already, its endpoints stay.
    pub(super) fn replace_service(&mut self, key: &NamespacedHostname, new: Option<Arc<Service>>) {
        let group = self.index.groups.pin().get(key).cloned().unwrap_or_default();
        if group.service == new {
            return;
        }
        self.has_changed = true;
        let old = group.service.clone();
        self.put_group(key, Group { service: new.clone(), endpoints: Arc::clone(&group.endpoints) });
        self.index_service(key, old.as_deref(), new.as_ref());
    }

    /// New places are filled before old ones are left, so that a reader always finds the service somewhere.
    fn index_service(&self, key: &NamespacedHostname, old: Option<&Service>, new: Option<&Arc<Service>>) {
        let is_same = |other: &Arc<Service>| other.namespace == key.namespace && other.hostname == key.hostname;
        let order = |left: &Arc<Service>, right: &Arc<Service>| index::by_key(left, right);

        let vips = |service: &Service| service.vips.iter().cloned().collect::<BTreeSet<_>>();
        let (left, taken) = (old.map(vips).unwrap_or_default(), new.map(|new| vips(new)).unwrap_or_default());
        taken.iter().for_each(|vip| index::put(&self.index.vips, vip.clone(), is_same, order, new.cloned()));
        left.difference(&taken).for_each(|vip| index::put(&self.index.vips, vip.clone(), is_same, order, None));

        let hostname = match key.hostname.as_str() {
            text if text.bytes().any(|byte| byte.is_ascii_uppercase()) => Hostname::from(text.to_ascii_lowercase()),
            _ => key.hostname.clone(),
        };
        index::put(&self.index.hosts, hostname, is_same, order, new.cloned());
        self.index_ranges(key, old, new);
    }

    fn index_ranges(&self, key: &NamespacedHostname, old: Option<&Service>, new: Option<&Arc<Service>>) {
        let networks: BTreeSet<&Arc<str>> = old
            .into_iter()
            .chain(new.map(|new| &**new))
            .flat_map(|service| &service.cidr_vips)
            .map(|vip| &vip.network)
            .collect();
        let ranges = self.index.ranges.pin();
        for network in networks {
            let others = ranges.get(network).map_or(&[][..], |list| list).iter();
            let others = others.filter(|(_, other)| other.namespace != key.namespace || other.hostname != key.hostname);
            let own = new.into_iter().flat_map(|new| new.cidr_vips.iter().map(move |vip| (vip, new)));
            let own = own.filter(|(vip, _)| vip.network == *network).map(|(vip, new)| (vip.cidr, Arc::clone(new)));
            let mut list: Vec<_> = others.cloned().chain(own).collect();
            list.sort_by(|(left_cidr, left), (right_cidr, right)| {
                index::by_key(left, right).then_with(|| left_cidr.cmp(right_cidr))
            });
            if list.is_empty() {
                ranges.remove(network);
            } else {
                ranges.insert(Arc::clone(network), Arc::from(list));
            }
        }
    }

    fn put_group(&self, key: &NamespacedHostname, group: Group) {
        let groups = self.index.groups.pin();
        if group.is_empty() {
            groups.remove(key);
        } else {
            groups.insert(key.clone(), Arc::new(group));
        }
    }

    /// Shows readers the endpoints of all changes so far, and tells those who wait.
    pub(super) fn publish(&mut self) {
        for (key, changes) in std::mem::take(&mut self.endpoints) {
            let group = self.index.groups.pin().get(&key).cloned().unwrap_or_default();
            let endpoints = merge(&group.endpoints, changes);
            self.put_group(&key, Group { service: group.service.clone(), endpoints });
        }
        if std::mem::take(&mut self.have_identities_changed) {
            let identities = self.identities.keys().cloned().collect();
            self.published_identities.send_replace(Arc::new(identities));
        }
        if std::mem::take(&mut self.has_local_changed) {
            self.local_version.send_modify(|version| *version += 1);
        }
        if std::mem::take(&mut self.has_changed) {
            self.version.send_modify(|version| *version += 1);
        }
    }
}

/// Applies changes to endpoints, which are sorted by uid, and so is the result; of several changes the last one counts.
fn merge(endpoints: &[Arc<Workload>], mut changes: Vec<EndpointChange>) -> Arc<[Arc<Workload>]> {
    changes.sort_by(|(left, _), (right, _)| left.cmp(right));
    let mut merged = Vec::with_capacity(endpoints.len() + changes.len());
    let mut old = endpoints.iter().peekable();
    let mut changes = changes.into_iter().peekable();
    while let Some((uid, new)) = changes.next() {
        if changes.peek().is_some_and(|(next, _)| *next == uid) {
            continue;
        }
        while let Some(kept) = old.next_if(|endpoint| endpoint.uid < uid) {
            merged.push(Arc::clone(kept));
        }
        old.next_if(|endpoint| endpoint.uid == uid);
        merged.extend(new);
    }
    merged.extend(old.cloned());
    #[cfg(test)]
    index::work::count(merged.len());
    Arc::from(merged)
}
