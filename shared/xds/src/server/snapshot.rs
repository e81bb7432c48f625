//! What is served: immutable, versioned snapshots of named resources.

mod difference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prost::Message;
use prost_types::Any;
use sha2::{Digest, Sha256};

use difference::Differences;

/// One resource as clients get it.
///
/// `Eq`, not only `PartialEq`, is what makes comparing an [`Arc`] of it with itself free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// A hash of the content: equal versions mean equal content, also across restarts and replicas.
    pub version: Arc<str>,
    /// The encoded resource and its type.
    pub resource: Any,
    /// Further names under which an explicit subscription finds the resource: addresses of a workload or service, and
    /// for an endpoint the services that it belongs to.
    pub aliases: Vec<String>,
    /// The node on which the resource runs: a client of that node gets it without asking.
    pub node: Option<Arc<str>>,
}

impl Entry {
    /// Encodes a message and takes its content's hash as version.
    ///
    /// Maps inside the message must be ordered, or equal messages get different versions.
    pub fn encode(type_url: &str, message: &impl Message) -> Self {
        let value = message.encode_to_vec();
        let resource = Any { type_url: type_url.to_owned(), value };
        Self { version: version(&resource.value), resource, aliases: Vec::new(), node: None }
    }

    /// The same entry, as running on a node.
    #[must_use]
    pub fn on_node(mut self, node: Option<&str>) -> Self {
        self.node = node.map(Arc::from);
        self
    }

    /// The same entry, found under further names.
    #[must_use]
    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }
}

/// The version of an encoded resource: half of its SHA-256 in hex.
///
/// Cryptographic, because whoever may write objects in one namespace must not be able to make a change of theirs
/// invisible, or to pass one content off as another.
#[must_use]
pub fn version(encoded: &[u8]) -> Arc<str> {
    let hash = Sha256::digest(encoded);
    hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// All resources of one type, by name; `Eq` for the same reason as [`Entry`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    entries: BTreeMap<Arc<str>, Arc<Entry>>,
    aliases: BTreeMap<String, BTreeSet<Arc<str>>>,
    differences: Differences,
}

impl Resources {
    /// By name, sorted.
    #[must_use]
    pub fn entries(&self) -> &BTreeMap<Arc<str>, Arc<Entry>> {
        &self.entries
    }

    /// The names, sorted, under which there is something else than there was, or nothing any more.
    ///
    /// What stayed should be the same `Arc` in both, names too: it is not looked at then.
    /// The first client that comes from `before` has it found out; for all others it is at hand.
    pub(crate) fn changed_since(&self, before: &Arc<Self>) -> Arc<[Arc<str>]> {
        self.differences.to(before, || difference::between(&before.entries, &self.entries))
    }

    /// The resources that a subscribed name stands for: the one of that name, or those with that alias.
    pub(crate) fn find<'a>(&'a self, name: &str) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Entry>)> {
        let aliased = self.aliases.get(name).into_iter().flatten().map(|name| &**name);
        let names: BTreeSet<&str> =
            self.entries.get_key_value(name).map(|(name, _)| &**name).into_iter().chain(aliased).collect();
        names.into_iter().filter_map(|name| self.entries.get_key_value(name))
    }
}

impl<N: Into<Arc<str>>, E: Into<Arc<Entry>>> FromIterator<(N, E)> for Resources {
    fn from_iter<I: IntoIterator<Item = (N, E)>>(entries: I) -> Self {
        let entries: BTreeMap<Arc<str>, Arc<Entry>> =
            entries.into_iter().map(|(name, entry)| (name.into(), entry.into())).collect();
        let mut aliases: BTreeMap<String, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (name, entry) in &entries {
            for alias in &entry.aliases {
                aliases.entry(alias.clone()).or_default().insert(Arc::clone(name));
            }
        }
        Self { entries, aliases, differences: Differences::default() }
    }
}

/// Everything that clients should know at one point in time.
///
/// Types that did not change should share their [`Resources`] with the previous snapshot: they are then skipped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Greater than the version of every snapshot before it.
    pub version: u64,
    /// By type URL; changes of several types are sent in this order.
    ///
    /// The order is that of the URLs, which puts policies before the workloads that name them, and Envoy's clusters
    /// before endpoints before listeners before routes.
    pub types: BTreeMap<Arc<str>, Arc<Resources>>,
}

#[cfg(test)]
mod tests {
    use proto::istio::workload::{PortList, Workload};

    use super::*;

    #[test]
    fn equal_messages_have_equal_versions_however_they_were_built() {
        let names: Vec<String> = (0..64).map(|index| format!("shop/svc-{index}")).collect();
        let build = |names: &mut dyn Iterator<Item = &String>| {
            let services = names.map(|name| (name.clone(), PortList::default())).collect();
            Entry::encode("w", &Workload { services, ..Workload::default() }).version
        };
        assert_eq!(build(&mut names.iter()), build(&mut names.iter().rev()));
    }

    #[test]
    fn versions_are_stable_across_builds() {
        assert_eq!(&*version(b"content"), "ed7002b439e9ac845f22357d822bac14");
    }

    #[test]
    fn a_name_finds_its_resource_and_what_has_it_as_alias() {
        let entry = |aliases: &[&str]| {
            Entry::encode("w", &Workload::default())
                .with_aliases(aliases.iter().map(|&alias| alias.to_owned()).collect())
        };
        let resources: Resources = [
            ("uid-1", entry(&["/10.0.0.1", "shop/cart"])),
            ("uid-2", entry(&["shop/cart"])),
            ("shop/cart", entry(&[])),
        ]
        .into_iter()
        .collect();
        let find = |name| resources.find(name).map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        assert_eq!(find("shop/cart"), ["shop/cart", "uid-1", "uid-2"]);
        assert_eq!(find("/10.0.0.1"), ["uid-1"]);
        assert!(find("/10.0.0.2").is_empty());
    }
}
