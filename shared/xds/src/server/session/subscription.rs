//! One type of one client's stream.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};

use super::TypeStatus;
use crate::server::snapshot::{Entry, Resources};

/// What a client refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rejection {
    pub(crate) names: Vec<Arc<str>>,
    pub(crate) message: String,
}

/// A response that has not been answered.
#[derive(Debug)]
struct Outstanding {
    nonce: String,
    version: u64,
    names: Vec<Arc<str>>,
}

#[derive(Debug, Default)]
pub(super) struct Subscription {
    is_wildcard: bool,
    names: BTreeSet<String>,
    /// The client's node, of whose resources it hears without asking.
    node: Option<Arc<str>>,
    /// Names subscribed to since the last response: each is answered, changed or not.
    fresh: BTreeSet<String>,
    /// What the client held when its stream began, by name and version; until the first response.
    initial: HashMap<String, String>,
    /// What the last response was made from; `None` before the first.
    base: Option<Arc<Resources>>,
    outstanding: Option<Outstanding>,
    sent: Option<u64>,
    told: Option<u64>,
    rejected: BTreeSet<Arc<str>>,
    last_error: Option<String>,
    has_begun: bool,
}

/// The content of a response.
#[derive(Default)]
struct Difference {
    changed: BTreeMap<Arc<str>, Arc<Entry>>,
    removed: BTreeSet<String>,
}

impl Subscription {
    pub(super) fn of_node(node: Option<Arc<str>>) -> Self {
        Self { node, ..Self::default() }
    }

    pub(super) fn names(&self) -> usize {
        self.names.len().max(self.initial.len())
    }

    pub(super) fn told(&self) -> Option<u64> {
        self.told
    }

    /// Takes the answer to the last response, if the request is one; any other nonce is stale and ignored.
    pub(super) fn acknowledge(&mut self, request: &DeltaDiscoveryRequest) -> Option<Rejection> {
        let outstanding = self.outstanding.take_if(|last| last.nonce == request.response_nonce)?;
        self.told = Some(outstanding.version);
        let message = request.error_detail.as_ref()?.message.clone();
        let names = refused(&outstanding.names, &message);
        self.rejected.extend(names.iter().cloned());
        self.last_error = Some(message.clone());
        Some(Rejection { names, message })
    }

    /// Takes the changes of interest in a request.
    ///
    /// The first request of a type without names means everything; so does `*` at any time. Names that the client
    /// already holds are names that it is interested in.
    pub(super) fn subscribe(&mut self, request: DeltaDiscoveryRequest) {
        let is_first = !std::mem::replace(&mut self.has_begun, true);
        if is_first {
            self.is_wildcard = request.resource_names_subscribe.is_empty();
            self.initial = request.initial_resource_versions;
        }
        for name in request.resource_names_subscribe {
            if name == "*" {
                // As with a name, asking again for everything is asking to see everything again.
                self.is_wildcard = true;
            } else {
                self.fresh.insert(name.clone());
                self.names.insert(name);
            }
        }
        for name in request.resource_names_unsubscribe {
            if name == "*" {
                self.is_wildcard = false;
            } else {
                self.names.remove(&name);
                self.fresh.remove(&name);
            }
        }
        if is_first && !self.is_wildcard {
            self.names.extend(self.initial.keys().cloned());
        }
    }

    /// The response that brings the client to `current`, if one is due and the last one has been answered.
    pub(super) fn push(
        &mut self,
        current: &Arc<Resources>,
        version: u64,
        nonce: String,
    ) -> Option<DeltaDiscoveryResponse> {
        if self.outstanding.is_some() {
            return None;
        }
        let difference = self.difference(current);
        // The first request for everything is answered even with nothing: the client waits for it to be ready.
        let is_due = !difference.is_empty() || (self.base.is_none() && self.is_wildcard);
        self.base = Some(Arc::clone(current));
        self.initial = HashMap::new();
        self.fresh.clear();
        if !is_due {
            self.told = Some(version);
            return None;
        }
        for name in difference.changed.keys().map(|name| &**name).chain(difference.removed.iter().map(|name| &**name)) {
            self.rejected.remove(name);
        }
        self.sent = Some(version);
        self.outstanding =
            Some(Outstanding { nonce: nonce.clone(), version, names: difference.changed.keys().cloned().collect() });
        Some(difference.into_response(version, nonce, !self.is_wildcard))
    }

    fn difference(&self, current: &Arc<Resources>) -> Difference {
        let mut difference = match &self.base {
            Some(base) if Arc::ptr_eq(base, current) => Difference::default(),
            Some(base) => self.since(base, current),
            None => self.since_initial(current),
        };
        for name in &self.fresh {
            let mut is_known = false;
            for (name, entry) in current.find(name) {
                is_known = true;
                // On a new stream the client may hold this very version.
                if !self.holds(name, entry) {
                    difference.changed.insert(Arc::clone(name), Arc::clone(entry));
                }
            }
            if !is_known {
                difference.removed.insert(name.clone());
            }
        }
        difference
    }

    fn since(&self, base: &Arc<Resources>, current: &Resources) -> Difference {
        let mut difference = Difference::default();
        for name in &*current.changed_since(base) {
            let old = base.entries().get(name);
            let was_sent = old.is_some_and(|old| self.matches(name, old));
            let new = current.entries().get(name).filter(|new| self.matches(name, new));
            match new {
                Some(new) if was_sent && old.is_some_and(|old| has_same_content(old, new)) => {}
                Some(new) => {
                    difference.changed.insert(Arc::clone(name), Arc::clone(new));
                }
                // It is gone, or has lost the alias under which the client knew it and would grow stale there.
                None if was_sent => {
                    difference.removed.insert(name.to_string());
                }
                None => {}
            }
        }
        difference
    }

    fn since_initial(&self, current: &Resources) -> Difference {
        let mut difference = Difference::default();
        for (name, entry) in current.entries() {
            if self.matches(name, entry) && !self.holds(name, entry) {
                difference.changed.insert(Arc::clone(name), Arc::clone(entry));
            }
        }
        for (name, version) in &self.initial {
            // What a client holds without a version it may have asked for under an alias.
            let is_gone = if self.is_wildcard || !version.is_empty() {
                !current.entries().contains_key(&**name)
            } else {
                current.find(name).next().is_none()
            };
            if is_gone {
                difference.removed.insert(name.clone());
            }
        }
        difference
    }

    /// Whether the client said on its new stream that it holds this version; an empty version is no version.
    fn holds(&self, name: &str, entry: &Entry) -> bool {
        !entry.version.is_empty() && self.initial.get(name).is_some_and(|version| **version == *entry.version)
    }

    fn matches(&self, name: &str, entry: &Entry) -> bool {
        let is_own = || entry.node.is_some() && entry.node == self.node;
        let is_named = || self.names.contains(name) || entry.aliases.iter().any(|alias| self.names.contains(alias));
        self.is_wildcard || is_own() || is_named()
    }

    pub(super) fn status(&self, type_url: Arc<str>) -> TypeStatus {
        let resources = self.base.as_ref().map_or(0, |base| {
            if self.is_wildcard {
                base.entries().len()
            } else {
                base.entries().iter().filter(|(name, entry)| self.matches(name, entry)).count()
            }
        });
        TypeStatus {
            type_url,
            resources,
            sent: self.sent.map(|version| (version, self.outstanding.is_none())),
            told: self.told,
            rejected: self.rejected.iter().cloned().collect(),
            last_error: self.last_error.clone(),
        }
    }
}

impl Difference {
    fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.removed.is_empty()
    }

    fn into_response(self, version: u64, nonce: String, with_aliases: bool) -> DeltaDiscoveryResponse {
        let resources = self.changed.into_iter().map(|(name, entry)| Resource {
            version: entry.version.to_string(),
            resource: Some(entry.resource.clone()),
            name: name.to_string(),
            aliases: if with_aliases { entry.aliases.clone() } else { Vec::new() },
            ttl: None,
        });
        DeltaDiscoveryResponse {
            system_version_info: version.to_string(),
            resources: resources.collect(),
            type_url: String::new(),
            nonce,
            removed_resources: self.removed.into_iter().collect(),
        }
    }
}

fn has_same_content(old: &Entry, new: &Entry) -> bool {
    old.version == new.version && (!new.version.is_empty() || old.resource == new.resource)
}

/// Which of the names that were sent a rejection is about: those that it spells out as `name: reason`, or all of them
/// when it is written in another way.
fn refused(sent: &[Arc<str>], message: &str) -> Vec<Arc<str>> {
    let starts: BTreeSet<&str> =
        message.split("; ").filter_map(|part| part.split_once(": ")).map(|(name, _)| name).collect();
    let named: Vec<_> = sent.iter().filter(|name| starts.contains(&***name)).cloned().collect();
    if named.is_empty() { sent.to_vec() } else { named }
}
