//! Who defines which host name: Services before ServiceEntries, older ServiceEntries before younger ones.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::ServiceEntry;
use types::NamespacedName;

use super::Options;
use super::index::is_external_name;
use super::service_entry::{is_hidden, is_private};
use crate::checked::Checked;
use crate::objects::{Named, Objects};

/// Which ServiceEntry defines a host, for its namespace and for all others.
pub(crate) struct Hosts<'a> {
    objects: &'a Objects,
    options: &'a Options,
    /// By namespace and host.
    owners: HashMap<(&'a str, &'a str), &'a Checked<ServiceEntry>>,
    /// By host: what those see who have no definition of their own.
    canonical: HashMap<&'a str, &'a Checked<ServiceEntry>>,
}

impl<'a> Hosts<'a> {
    pub(crate) fn new(objects: &'a Objects, options: &'a Options) -> Self {
        let mut hosts = Self { objects, options, owners: HashMap::new(), canonical: HashMap::new() };
        for entry in by_age(objects).into_iter().filter(|entry| !is_hidden(&entry.object.spec)) {
            for host in &entry.object.spec.hosts {
                if !hosts.is_service(host, Some(entry.namespace())) {
                    hosts.owners.entry((entry.namespace(), host)).or_insert(entry);
                }
                if !is_private(&entry.object.spec) && !hosts.is_service(host, None) {
                    hosts.canonical.entry(host).or_insert(entry);
                }
            }
        }
        hosts
    }

    /// The hosts of an entry that it defines in its namespace, each once, in its order.
    pub(super) fn of(&self, entry: &'a Checked<ServiceEntry>) -> Vec<&'a str> {
        let mut hosts = Vec::new();
        for host in &entry.object.spec.hosts {
            let is_owner = self.owners.get(&(entry.namespace(), host)).is_some_and(|owner| std::ptr::eq(*owner, entry));
            if is_owner && !hosts.contains(&host.as_str()) {
                hosts.push(host.as_str());
            }
        }
        hosts
    }

    /// Whether other namespaces see this entry's definition of the host.
    pub(super) fn is_canonical(&self, entry: &Checked<ServiceEntry>, host: &str) -> bool {
        self.canonical.get(host).is_some_and(|canonical| std::ptr::eq(*canonical, entry))
    }

    /// What defines the host in the entry's namespace instead of the entry.
    pub(crate) fn rival(&self, entry: &Checked<ServiceEntry>, host: &str) -> Option<String> {
        match self.owners.get(&(entry.namespace(), host)) {
            Some(owner) if std::ptr::eq(*owner, entry) => None,
            Some(owner) => Some(format!("the older ServiceEntry {}", owner.key())),
            None if is_hidden(&entry.object.spec) => None,
            None => Some("a Service".to_owned()),
        }
    }

    /// Whether the host is the name of a Service, in this namespace if one is given.
    fn is_service(&self, host: &str, namespace: Option<&str>) -> bool {
        let name = host.strip_suffix(self.options.cluster_domain.as_str()).and_then(|rest| rest.strip_suffix(".svc."));
        let Some((name, place)) = name.and_then(|name| name.split_once('.')) else { return false };
        let is_meant = namespace.is_none_or(|namespace| namespace == place);
        is_meant && self.objects.services.get(place, name).is_some_and(|service| !is_external_name(service))
    }
}

/// All entries, the oldest first; equally old ones in the order of their names.
pub(crate) fn by_age(objects: &Objects) -> Vec<&Checked<ServiceEntry>> {
    let mut entries: Vec<&Checked<ServiceEntry>> = objects.service_entries.iter().map(|entry| &**entry).collect();
    let age = |entry: &Checked<ServiceEntry>| -> (Option<Time>, NamespacedName) {
        (entry.metadata().creation_timestamp.clone(), entry.key())
    };
    entries.sort_by_cached_key(|entry| age(entry));
    entries
}
