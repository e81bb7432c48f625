//! Sharing of equal texts.
//!
//! A namespace, a node or a list of ports is named by thousands of workloads, each of which came in a message of its
//! own; keeping one copy of each is most of what keeps 100,000 workloads small.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use types::{Hostname, NamespacedHostname, NamespacedName, TrustDomain};

use crate::model::{Destination, GatewayAddress, Labels, Locality, PortMap, Service, Workload};

/// Below this size nothing is gained by looking for what is no longer used.
const SMALLEST_SWEEP: usize = 1024;

#[derive(Default)]
pub(crate) struct Interner {
    texts: Pool<Arc<str>>,
    ports: Pool<PortMap>,
    labels: Pool<Labels>,
    gateways: Pool<Arc<GatewayAddress>>,
    localities: Pool<Arc<Locality>>,
    services: Pool<Arc<[(NamespacedHostname, PortMap)]>>,
    policies: Pool<Arc<[NamespacedName]>>,
    /// Few ever, so never swept.
    trust_domains: HashSet<TrustDomain>,
}

impl Interner {
    /// Makes a workload use the shared copies.
    pub(crate) fn workload(&mut self, workload: &mut Workload) {
        self.kind(workload);
        self.text(&mut workload.node);
        self.locality(&mut workload.locality);
    }

    /// Makes what a workload has in common with others of its kind use the shared copies.
    pub(crate) fn kind(&mut self, workload: &mut Workload) {
        for text in [
            &mut workload.namespace,
            &mut workload.network,
            &mut workload.service_account,
            &mut workload.canonical_name,
            &mut workload.canonical_revision,
            &mut workload.workload_name,
            &mut workload.cluster_id,
        ] {
            self.text(text);
        }
        self.hostname(&mut workload.hostname);
        self.trust_domain(&mut workload.trust_domain);
        for gateway in [&mut workload.waypoint, &mut workload.network_gateway].into_iter().flatten() {
            let texts = &mut self.texts;
            self.gateways.share_after(gateway, |gateway| share_gateway(texts, gateway));
        }
        let texts = &mut self.texts;
        self.policies.share_after(&mut workload.authorization_policies, |policies| {
            for NamespacedName { namespace, name } in policies {
                texts.share(namespace);
                texts.share(name);
            }
        });
        let ports = &mut self.ports;
        self.services.share_after(&mut workload.services, |services| {
            for (key, map) in services {
                share_key(texts, key);
                ports.share(map);
            }
        });
        if let Some(labels) = &mut workload.labels {
            self.labels.share(labels);
        }
    }

    /// Makes a service use the shared copies.
    pub(crate) fn service(&mut self, service: &mut Service) {
        self.text(&mut service.name);
        self.text(&mut service.namespace);
        self.hostname(&mut service.hostname);
        self.ports.share(&mut service.ports);
        for vip in &mut service.vips {
            self.text(&mut vip.network);
        }
        for vip in &mut service.cidr_vips {
            self.text(&mut vip.network);
        }
        let weighted = service.weighted_waypoints.iter_mut().map(|weighted| &mut weighted.destination);
        for gateway in service.waypoint.iter_mut().chain(weighted) {
            share_gateway(&mut self.texts, gateway);
        }
        for identity in &mut service.subject_alt_names {
            self.trust_domain(&mut identity.trust_domain);
            self.text(&mut identity.namespace);
            self.text(&mut identity.service_account);
        }
    }

    /// The shared copy of a text.
    pub(crate) fn shared_text(&mut self, text: &str) -> Arc<str> {
        self.texts.shared_str(text)
    }

    fn text(&mut self, text: &mut Arc<str>) {
        self.texts.share(text);
    }

    fn hostname(&mut self, hostname: &mut Hostname) {
        *hostname = Hostname::from(self.texts.shared_str(hostname.as_str()));
    }

    /// Makes this a shared copy.
    pub(crate) fn locality(&mut self, locality: &mut Arc<Locality>) {
        let texts = &mut self.texts;
        self.localities.share_after(locality, |Locality { region, zone, subzone }| {
            [region, zone, subzone].into_iter().for_each(|text| texts.share(text));
        });
    }

    fn trust_domain(&mut self, trust_domain: &mut TrustDomain) {
        if let Some(shared) = self.trust_domains.get(trust_domain) {
            *trust_domain = shared.clone();
        } else {
            self.trust_domains.insert(trust_domain.clone());
        }
    }
}

fn share_key(texts: &mut Pool<Arc<str>>, key: &mut NamespacedHostname) {
    texts.share(&mut key.namespace);
    key.hostname = Hostname::from(texts.shared_str(key.hostname.as_str()));
}

fn share_gateway(texts: &mut Pool<Arc<str>>, gateway: &mut GatewayAddress) {
    match &mut gateway.destination {
        Destination::Hostname(key) => share_key(texts, key),
        Destination::Address(address) => texts.share(&mut address.network),
    }
}

/// Something that is shared by counting references.
trait Shared: Clone + Eq + Hash {
    /// Whether nobody else holds it.
    fn is_last(&self) -> bool;
}

impl<T: Eq + Hash + ?Sized> Shared for Arc<T> {
    fn is_last(&self) -> bool {
        Self::strong_count(self) == 1
    }
}

impl Shared for PortMap {
    fn is_last(&self) -> bool {
        self.is_last_reference()
    }
}

/// One copy of each value, swept of those that only the pool holds whenever it has doubled.
struct Pool<T> {
    values: HashSet<T, foldhash::quality::RandomState>,
    next_sweep: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::default(), next_sweep: SMALLEST_SWEEP }
    }
}

impl<T: Shared> Pool<T> {
    fn share(&mut self, value: &mut T) {
        match self.values.get(value) {
            Some(shared) => *value = shared.clone(),
            None => self.add(value.clone()),
        }
    }

    fn add(&mut self, value: T) {
        if self.values.len() >= self.next_sweep {
            self.values.retain(|value| !value.is_last());
            self.next_sweep = SMALLEST_SWEEP.max(self.values.len() * 2);
        }
        self.values.insert(value);
    }
}

impl<T: ?Sized> Pool<Arc<T>>
where
    Arc<T>: Shared,
{
    /// The same for a value with parts that are shared too; they are looked at when the value is new.
    fn share_after(&mut self, value: &mut Arc<T>, parts: impl FnOnce(&mut T)) {
        if let Some(shared) = self.values.get(value) {
            *value = Arc::clone(shared);
            return;
        }
        if let Some(own) = Arc::get_mut(value) {
            parts(own);
        }
        self.add(Arc::clone(value));
    }
}

impl Pool<Arc<str>> {
    fn shared_str(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.values.get(text) {
            return Arc::clone(shared);
        }
        let text: Arc<str> = Arc::from(text);
        self.add(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn equal_texts_are_kept_once() {
        let mut interner = Interner::default();
        let mut first = Workload { namespace: text("shop"), ..Workload::default() };
        let mut second = Workload { namespace: text("shop"), ..Workload::default() };
        interner.workload(&mut first);
        interner.workload(&mut second);
        assert!(Arc::ptr_eq(&first.namespace, &second.namespace));
    }

    #[test]
    fn texts_that_nobody_uses_do_not_pile_up() {
        let mut interner = Interner::default();
        let mut kept = text("kept");
        interner.text(&mut kept);
        for number in 0..100_000 {
            interner.text(&mut text(&format!("text {number}")));
        }
        assert!(interner.texts.values.len() <= SMALLEST_SWEEP, "{}", interner.texts.values.len());
        assert!(interner.texts.values.contains("kept"));
    }
}
