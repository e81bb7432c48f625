//! The objects, their revisions and a bounded history of changes. Knows nothing of kinds' rules.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use serde_json::{Value, json};

use super::Status;
use super::kind::Kind;

/// A stored object; never changed in place.
pub(crate) type Object = Arc<Value>;

/// Namespace (empty for kinds without) and name.
pub(crate) type Key = (String, String);

/// Changes kept per collection: a watch that resumes further back is told to list again.
const HISTORY: usize = 2048;

/// Objects kept in all, an amount that a lab never needs.
const MAX_OBJECTS: usize = 50_000;

/// One change.
pub(crate) struct Change {
    pub(crate) revision: u64,
    /// The object as it was; nothing if it is new.
    pub(crate) before: Option<Object>,
    /// The object as it is, or its last state with the revision of its removal.
    pub(crate) after: Object,
    pub(crate) is_removal: bool,
}

#[derive(Default)]
struct Collection {
    objects: BTreeMap<Key, Object>,
    history: VecDeque<Change>,
    /// The revision of the newest forgotten change.
    forgotten: u64,
}

pub(crate) struct Store {
    revision: u64,
    collections: Vec<Collection>,
}

impl Store {
    /// An empty store with so many collections.
    pub(crate) fn new(collections: usize) -> Self {
        Self { revision: 1, collections: (0..collections).map(|_| Collection::default()).collect() }
    }

    /// The revision of the newest change.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether there is a revision already.
    ///
    /// # Errors
    /// `Timeout`, in the words by which clients know a version that this server has not reached.
    pub(crate) fn reached(&self, revision: u64) -> Result<(), Status> {
        if revision > self.revision { Err(Status::not_yet(revision, self.revision)) } else { Ok(()) }
    }

    /// The revision of the newest change to a kind.
    pub(crate) fn changed(&self, kind: &Kind) -> u64 {
        let newest = self.collections.get(kind.collection).and_then(|collection| collection.history.back());
        newest.map_or(0, |change| change.revision)
    }

    /// One object.
    pub(crate) fn fetch(&self, kind: &Kind, namespace: &str, name: &str) -> Option<&Object> {
        self.collections.get(kind.collection)?.objects.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Objects of one namespace, or of all, in the order of namespace and name.
    pub(crate) fn iter(&self, kind: &Kind, namespace: Option<&str>) -> impl Iterator<Item = &Object> {
        let from = (namespace.unwrap_or_default().to_owned(), String::new());
        let within = move |key: &Key| namespace.is_none_or(|namespace| key.0 == namespace);
        let objects = self.collections.get(kind.collection).map(|collection| collection.objects.range(from..));
        objects.into_iter().flatten().take_while(move |(key, _)| within(key)).map(|(_, object)| object)
    }

    /// Whether another object may be added.
    pub(crate) fn has_room(&self) -> bool {
        self.collections.iter().map(|collection| collection.objects.len()).sum::<usize>() < MAX_OBJECTS
    }

    /// Adds or replaces an object, which gets the next revision.
    pub(crate) fn put(&mut self, kind: &Kind, mut object: Value) -> Object {
        self.revision += 1;
        let revision = self.revision;
        stamp(&mut object, revision);
        let object = Arc::new(object);
        if let Some(collection) = self.collections.get_mut(kind.collection) {
            let before = collection.objects.insert(key(&object), Arc::clone(&object));
            collection.remember(Change { revision, before, after: Arc::clone(&object), is_removal: false });
        }
        object
    }

    /// Takes an object out; returns its last state.
    pub(crate) fn remove(&mut self, kind: &Kind, key: &Key) -> Option<Object> {
        let collection = self.collections.get_mut(kind.collection)?;
        let before = collection.objects.remove(key)?;
        let mut last = (*before).clone();
        self.revision += 1;
        stamp(&mut last, self.revision);
        let (revision, after) = (self.revision, Arc::new(last));
        collection.remember(Change { revision, before: Some(before), after: Arc::clone(&after), is_removal: true });
        Some(after)
    }

    /// The objects of a kind as they were at a revision, in the order of namespace and name.
    ///
    /// # Errors
    /// As [`Store::since`].
    pub(crate) fn at(&self, kind: &Kind, revision: u64) -> Result<Vec<Object>, Status> {
        let mut past: BTreeMap<_, _> = self.iter(kind, None).map(|object| (key(object), object)).collect();
        for change in self.since(kind, revision)?.rev() {
            match &change.before {
                Some(before) => past.insert(key(before), before),
                None => past.remove(&key(&change.after)),
            };
        }
        Ok(past.into_values().cloned().collect())
    }

    /// What changed after a revision.
    ///
    /// # Errors
    /// `Expired` when that is no longer known, or not yet (the revision is another server's).
    pub(crate) fn since(&self, kind: &Kind, revision: u64) -> Result<impl DoubleEndedIterator<Item = &Change>, Status> {
        let Some(collection) = self.collections.get(kind.collection) else { return Err(Status::no_such_resource()) };
        if revision < collection.forgotten || revision > self.revision {
            return Err(Status::expired(revision, collection.forgotten));
        }
        let first = collection.history.partition_point(|change| change.revision <= revision);
        Ok(collection.history.range(first..))
    }
}

impl Collection {
    fn remember(&mut self, change: Change) {
        if self.history.len() >= HISTORY
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
        }
        self.history.push_back(change);
    }
}

/// The key of an object.
pub(crate) fn key(object: &Value) -> Key {
    (text(object, "/metadata/namespace").to_owned(), text(object, "/metadata/name").to_owned())
}

/// The string at a JSON pointer, or nothing.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The items of the list at a JSON pointer.
pub(crate) fn items<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn stamp(object: &mut Value, revision: u64) {
    if let Some(metadata) = object.pointer_mut("/metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".into(), json!(revision.to_string()));
    }
}
