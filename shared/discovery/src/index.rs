//! The concurrent maps that a [`Writer`](crate::Writer) fills and [`View`](crate::View)s read.
//!
//! Every value is immutable and shared; an update replaces it under its key in one step.
//! Lists under one key are short, but for the endpoints of a service, which cost O(endpoints) to replace.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::hash::Hash;
use std::ops::Deref;
use std::sync::Arc;

use papaya::Operation;
use tokio::sync::watch;
use types::{Cidr, Hostname, Identity, NamespacedHostname, NetworkAddress, WorkloadUid};

use crate::model::{Health, LocalName, Protocol, Service, Workload};

/// A map that readers share with the writer.
///
/// Its hashes are seeded at random and quick, not cryptographic: texts are hashed ten times while a workload is taken in.
pub(crate) type HashMap<K, V> = papaya::HashMap<K, V, foldhash::quality::RandomState>;

/// Several values under one key, in order of preference; never empty while in a map.
pub(crate) type List<T> = Arc<[T]>;

/// The same, where there is nearly always one: it needs no list then.
#[derive(Clone)]
pub(crate) enum Few<T> {
    One(T),
    Several(List<T>),
}

pub(crate) struct Index {
    /// The network that this proxy is in.
    pub(crate) network: Arc<str>,
    /// The node that this proxy serves; all of them if unset.
    pub(crate) node: Option<Arc<str>>,
    pub(crate) workloads: HashMap<WorkloadUid, Arc<Workload>>,
    /// By address, the preferred workload first.
    pub(crate) addresses: HashMap<NetworkAddress, Few<Arc<Workload>>>,
    /// Workloads that have a host name, by namespace and host name, the preferred one first.
    pub(crate) named: HashMap<NamespacedHostname, Few<Arc<Workload>>>,
    /// Workloads of the own node, the preferred one first.
    pub(crate) local: HashMap<LocalName, Few<Arc<Workload>>>,
    pub(crate) groups: HashMap<NamespacedHostname, Arc<Group>>,
    /// Services by virtual address, sorted by key.
    pub(crate) vips: HashMap<NetworkAddress, Few<Arc<Service>>>,
    /// Services by the network of a range of virtual addresses.
    pub(crate) ranges: HashMap<Arc<str>, List<(Cidr, Arc<Service>)>>,
    /// Services by host name in lower case, sorted by key.
    pub(crate) hosts: HashMap<Hostname, Few<Arc<Service>>>,
    /// Counts published changes.
    pub(crate) version: watch::Receiver<u64>,
    /// Counts changes of `local`.
    pub(crate) local_version: watch::Receiver<u64>,
    /// Identities of the own node that need certificates.
    pub(crate) identities: watch::Receiver<Arc<BTreeSet<Identity>>>,
}

/// A service and the workloads that name it; either may be there without the other.
#[derive(Clone, Default)]
pub(crate) struct Group {
    pub(crate) service: Option<Arc<Service>>,
    /// All of them, healthy or not, sorted by uid.
    pub(crate) endpoints: List<Arc<Workload>>,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.service.is_none() && self.endpoints.is_empty()
    }

    pub(crate) fn endpoint(&self, uid: &WorkloadUid) -> Option<&Arc<Workload>> {
        let index = self.endpoints.binary_search_by(|endpoint| endpoint.uid.cmp(uid)).ok()?;
        self.endpoints.get(index)
    }
}

/// Which of several workloads with the same address is meant: a pod before others, then one that is captured.
///
/// Further ties are settled for the one that is healthy, then by uid, so that all proxies agree whatever came first.
pub(crate) fn prefer(left: &Workload, right: &Workload) -> Ordering {
    let rank = |workload: &Workload| {
        let is_pod = workload.uid.as_str().contains("//Pod/");
        Reverse((is_pod, workload.protocol == Protocol::Hbone, workload.health == Health::Healthy))
    };
    rank(left).cmp(&rank(right)).then_with(|| left.uid.cmp(&right.uid))
}

/// The order of services under one key.
pub(crate) fn by_key(left: &Service, right: &Service) -> Ordering {
    (&left.namespace, &left.hostname).cmp(&(&right.namespace, &right.hostname))
}

/// Replaces, adds or removes what is the same thing in a list, and keeps the list sorted.
pub(crate) fn put<K: Hash + Eq, T: Clone>(
    map: &HashMap<K, Few<T>>,
    key: K,
    is_same: impl Fn(&T) -> bool,
    order: impl Fn(&T, &T) -> Ordering,
    new: Option<T>,
) {
    let next = |old: Option<(&K, &Few<T>)>| {
        let old = old.map_or(&[][..], |(_key, few)| few);
        #[cfg(test)]
        work::count(1 + old.len());
        let mut others = old.iter().filter(|other| !is_same(other)).peekable();
        let few = match (others.peek(), new.clone()) {
            (None, None) if old.is_empty() => return Operation::Abort(()),
            (None, None) => return Operation::Remove,
            (None, Some(new)) => Few::One(new),
            (Some(_), new) => {
                let mut list: Vec<T> = others.cloned().collect();
                if let Some(new) = new {
                    let index = list.partition_point(|other| order(other, &new).is_lt());
                    list.insert(index, new);
                }
                Few::Several(Arc::from(list))
            }
        };
        Operation::Insert(few)
    };
    map.pin().compute(key, next);
}

impl<T> Deref for Few<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Several(list) => list,
        }
    }
}

/// How much of the indices was touched: what a change costs must not depend on how large the mesh is.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<usize> = const { Cell::new(0) });

    pub(crate) fn count(values: usize) {
        DONE.set(DONE.get() + values);
    }

    /// Takes what was counted on this thread since the last time.
    pub(crate) fn take() -> usize {
        DONE.take()
    }
}
