//! Sharing of equal texts.
//!
//! A namespace, a node or a list of ports is named by thousands of workloads, each of which came in a message of its
//! own; keeping one copy of each is most of what keeps 100,000 workloads small.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use types::{Hostname, NamespacedHostname, NamespacedName, TrustDomain};

use crate::model::{Destination, GatewayAddress, Labels, PortMap, Service, Workload};

/// Below this size nothing is gained by looking for what is no longer used.
const SMALLEST_SWEEP: usize = 1024;

#[derive(Default)]
pub(crate) struct Interner {
    texts: Pool<Arc<str>>,
    ports: Pool<PortMap>,
    labels: Pool<Labels>,
    /// Few ever, so never swept.
    trust_domains: HashSet<TrustDomain>,
}

impl Interner {
    /// Makes a workload use the shared copies; its uid and name are its own anyway.
    pub(crate) fn workload(&mut self, workload: &mut Workload) {
        for text in [
            &mut workload.namespace,
            &mut workload.network,
            &mut workload.service_account,
            &mut workload.node,
            &mut workload.canonical_name,
            &mut workload.canonical_revision,
            &mut workload.workload_name,
            &mut workload.cluster_id,
            &mut workload.locality.region,
            &mut workload.locality.zone,
            &mut workload.locality.subzone,
        ] {
            self.text(text);
        }
        self.hostname(&mut workload.hostname);
        self.trust_domain(&mut workload.trust_domain);
        for gateway in [&mut workload.waypoint, &mut workload.network_gateway].into_iter().flatten() {
            self.gateway(gateway);
        }
        for NamespacedName { namespace, name } in &mut workload.authorization_policies {
            self.text(namespace);
            self.text(name);
        }
        for (key, ports) in &mut workload.services {
            self.service_key(key);
            self.ports.share(ports);
        }
        if let Some(labels) = &mut workload.labels {
            self.labels.share(labels);
        }
        workload.addresses.shrink_to_fit();
        workload.authorization_policies.shrink_to_fit();
        workload.services.shrink_to_fit();
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
            self.gateway(gateway);
        }
        for identity in &mut service.subject_alt_names {
            self.trust_domain(&mut identity.trust_domain);
            self.text(&mut identity.namespace);
            self.text(&mut identity.service_account);
        }
    }

    fn text(&mut self, text: &mut Arc<str>) {
        self.texts.share(text);
    }

    fn hostname(&mut self, hostname: &mut Hostname) {
        *hostname = Hostname::from(self.texts.shared_str(hostname.as_str()));
    }

    fn service_key(&mut self, key: &mut NamespacedHostname) {
        self.text(&mut key.namespace);
        self.hostname(&mut key.hostname);
    }

    fn gateway(&mut self, gateway: &mut GatewayAddress) {
        match &mut gateway.destination {
            Destination::Hostname(key) => self.service_key(key),
            Destination::Address(address) => self.text(&mut address.network),
        }
    }

    fn trust_domain(&mut self, trust_domain: &mut TrustDomain) {
        if let Some(shared) = self.trust_domains.get(trust_domain) {
            *trust_domain = shared.clone();
        } else {
            self.trust_domains.insert(trust_domain.clone());
        }
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
    values: HashSet<T>,
    next_sweep: usize,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self { values: HashSet::new(), next_sweep: SMALLEST_SWEEP }
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
