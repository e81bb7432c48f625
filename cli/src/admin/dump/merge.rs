//! Several proxies' dumps as one: discovery is the same everywhere, certificates and connections add up.

use std::collections::{BTreeMap, BTreeSet};

use super::{Certificate, Dump, Entry, Policy, Service, Workload};

/// What makes an item the same on every proxy.
trait Keyed {
    const KIND: &'static str;
    fn key(&self) -> String;
}

impl Keyed for Workload {
    const KIND: &'static str = "workload";
    fn key(&self) -> String {
        self.uid.clone()
    }
}

impl Keyed for Service {
    const KIND: &'static str = "service";
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.hostname)
    }
}

impl Keyed for Policy {
    const KIND: &'static str = "policy";
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Keyed for Certificate {
    const KIND: &'static str = "certificate";
    /// Each proxy has its own certificate of an identity.
    fn key(&self) -> String {
        let serial = self.cert_chain.first().map(|leaf| leaf.serial_number.as_str()).unwrap_or_default();
        format!("{} {serial}", self.identity)
    }
}

impl Dump {
    /// One dump of several; what discovery tells one proxy and not another is noted.
    pub(crate) fn merged(dumps: Vec<Self>) -> Self {
        let count = dumps.len();
        if count <= 1 {
            return dumps.into_iter().next().unwrap_or_default();
        }
        let mut merged = Self::default();
        let (mut workloads, mut services, mut policies) = (Vec::new(), Vec::new(), Vec::new());
        let mut certificates = Vec::new();
        for dump in dumps {
            workloads.push(dump.workloads);
            services.push(dump.services);
            policies.push(dump.policies);
            certificates.push(dump.certificates);
            merged.pods.extend(dump.pods);
        }
        let mut disagreements = BTreeSet::new();
        merged.workloads = union(workloads, &mut disagreements);
        merged.services = union(services, &mut disagreements);
        merged.policies = union(policies, &mut disagreements);
        // Of certificates each proxy has its own.
        merged.certificates = union(certificates, &mut BTreeSet::new());
        merged.disagreements = disagreements;
        merged
    }
}

/// Each item once, sorted by its key.
fn union<T: Keyed>(lists: Vec<Vec<Entry<T>>>, disagreements: &mut BTreeSet<String>) -> Vec<Entry<T>> {
    let count = lists.len();
    let mut all: BTreeMap<String, (Entry<T>, usize)> = BTreeMap::new();
    for entry in lists.into_iter().flatten() {
        let key = entry.item.key();
        match all.get_mut(&key) {
            Some((known, seen)) => {
                *seen += 1;
                if known.raw != entry.raw {
                    disagreements.insert(format!("{} {key}", T::KIND));
                }
            }
            None => {
                all.insert(key, (entry, 1));
            }
        }
    }
    disagreements
        .extend(all.iter().filter(|(_, (_, seen))| *seen < count).map(|(key, _)| format!("{} {key}", T::KIND)));
    all.into_values().map(|(entry, _)| entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(text: &str) -> Dump {
        Dump::parse(text).unwrap()
    }

    #[test]
    fn what_all_proxies_know_is_there_once() {
        let one = r#"{"workloads": [{"uid": "a"}], "certificates": [{"identity": "x", "certChain": [{"serialNumber": "1"}]}],
            "workloadState": {"1": {}}}"#;
        let other = r#"{"workloads": [{"uid": "a"}], "certificates": [{"identity": "x", "certChain": [{"serialNumber": "2"}]}],
            "workloadState": {"2": {}}}"#;
        let merged = Dump::merged(vec![dump(one), dump(other)]);
        assert_eq!(merged.workloads.len(), 1);
        assert_eq!((merged.certificates.len(), merged.pods.len()), (2, 2));
        assert!(merged.disagreements.is_empty(), "{:?}", merged.disagreements);
    }

    #[test]
    fn what_one_proxy_lacks_or_sees_otherwise_is_named() {
        let one = r#"{"workloads": [{"uid": "a", "status": "Healthy"}, {"uid": "b"}]}"#;
        let other =
            r#"{"workloads": [{"uid": "a", "status": "Unhealthy"}], "policies": [{"name": "p", "namespace": "n"}]}"#;
        let merged = Dump::merged(vec![dump(one), dump(other)]);
        let named: Vec<&str> = merged.disagreements.iter().map(String::as_str).collect();
        assert_eq!(named, ["policy n/p", "workload a", "workload b"]);
    }
}
