//! The books of what is held of a type: names and versions.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::version::Version;

/// Names that are held, with the version last accepted; empty for what was refused and is remembered nevertheless.
#[derive(Default)]
pub(super) struct Held {
    versions: HashMap<Arc<str>, Version, foldhash::quality::RandomState>,
    /// The versions that the response under way has replaced, until it is known what of it is refused.
    replaced: Vec<(Arc<str>, Version)>,
}

impl Held {
    /// Makes room for as many resources, once.
    pub(super) fn reserve(&mut self, resources: usize) {
        self.versions.reserve(resources.saturating_sub(self.versions.len()));
    }

    /// Enters a resource as accepted, which [`Held::settle`] may take back, and gives the name as the books have it.
    pub(super) fn enter(&mut self, name: &str, version: &str) -> Arc<str> {
        match self.versions.entry(Arc::from(name)) {
            Entry::Vacant(place) => {
                let name = Arc::clone(place.key());
                place.insert(version.into());
                name
            }
            Entry::Occupied(mut place) => {
                let name = Arc::clone(place.key());
                self.replaced.push((Arc::clone(&name), place.insert(version.into())));
                name
            }
        }
    }

    /// Ends a response: what of it was refused has the entry of its last good version again, so that a removal while
    /// away is still noticed.
    pub(super) fn settle<'a>(&mut self, refused: impl Iterator<Item = &'a str>) {
        let replaced = std::mem::take(&mut self.replaced);
        let mut refused = refused.peekable();
        if refused.peek().is_none() {
            return;
        }
        let mut replaced: HashMap<Arc<str>, Version> = replaced.into_iter().collect();
        for name in refused {
            match replaced.remove_entry(name) {
                Some((name, version)) => drop(self.versions.insert(name, version)),
                None => self.remove(name),
            }
        }
    }

    /// Enters a name without a version, if it is not held.
    pub(super) fn remember(&mut self, name: &str) {
        self.versions.entry(Arc::from(name)).or_default();
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.versions.remove(name);
    }

    /// Names and versions as they came, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (String, String)> {
        self.versions.iter().map(|(name, version)| (name.to_string(), version.to_string()))
    }
}
