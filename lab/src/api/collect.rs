//! Deletion and what follows from it: graceful ends, finalizers, owned objects, the contents of namespaces.

use std::collections::VecDeque;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use serde_json::{Value, json};

use super::core::{Core, Target, fetch};
use super::defaults::{entry, fields};
use super::kind::{self, Kind};
use super::store::{self, Key, Object, Store, items, text};
use super::{DeleteOptions, Status};

/// What came of a deletion.
pub(crate) enum Deleted {
    /// The object is gone; its last state.
    Gone(Object),
    /// The object is marked and goes later.
    Marked(Object),
}

/// An object to be deleted.
struct Doomed {
    kind: &'static Kind,
    key: Key,
    grace: Option<i64>,
    orphan: bool,
}

impl Core {
    /// Deletes one object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for another uid, `Forbidden` for namespaces that the cluster needs.
    pub(crate) fn delete(&self, target: Target<'_>, options: &DeleteOptions, dry_run: bool) -> Result<Deleted, Status> {
        let kind = target.kind;
        self.write(|store| {
            let object = fetch(store, target)?;
            let uid = text(&object, "/metadata/uid");
            let version = text(&object, "/metadata/resourceVersion");
            let conditions = [("UID", &options.uid, uid), ("ResourceVersion", &options.resource_version, version)];
            for (what, wanted, is) in conditions {
                if let Some(wanted) = wanted.as_deref().filter(|wanted| *wanted != is) {
                    let why =
                        format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
                    return Err(Status::conflict(&kind.resource(), target.name, why));
                }
            }
            if kind.is::<Namespace>() && ["default", "kube-system"].contains(&target.name) {
                return Err(Status::forbidden("namespaces", target.name, "this namespace may not be deleted"));
            }
            if dry_run {
                return Ok(Deleted::Gone(object));
            }
            let grace = options.grace_period.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
            run(store, Doomed { kind, key: store::key(&object), grace, orphan: options.orphan });
            Ok(match store.fetch(kind, target.namespace, target.name) {
                Some(left) if text(left, "/metadata/uid") == uid => Deleted::Marked(Arc::clone(left)),
                _ => Deleted::Gone(object),
            })
        })
    }
}

impl Core {
    /// Deletes everything in a namespace that is marked for deletion.
    pub(crate) fn empty_namespace(&self, name: &str) -> Result<(), Status> {
        self.write(|store| {
            for kind in kind::all().iter().filter(|kind| kind.namespaced) {
                let objects: Vec<_> = store.iter(kind, Some(name)).cloned().collect();
                for object in objects {
                    run(store, Doomed { kind, key: store::key(&object), grace: None, orphan: false });
                }
            }
            finish_namespace(store, name);
            Ok(())
        })
    }
}

/// An object whose owners are all gone already must not stay.
pub(crate) fn after_create(store: &mut Store, kind: &'static Kind, object: &Object) {
    if items(object, "/metadata/ownerReferences").next().is_some() && !has_owner(store, object) {
        run(store, Doomed { kind, key: store::key(object), grace: None, orphan: false });
    }
}

/// A marked object goes once nothing holds it any more.
pub(crate) fn after_update(store: &mut Store, kind: &'static Kind, object: &Object) {
    let is_marked = !text(object, "/metadata/deletionTimestamp").is_empty();
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if is_marked && grace == 0 && !kind.is::<Namespace>() && !has_finalizers(object) {
        run(store, Doomed { kind, key: store::key(object), grace: Some(0), orphan: false });
    }
}

/// Deletes one object and all that follows. A list of work instead of recursion: chains of owners may be long.
fn run(store: &mut Store, first: Doomed) {
    let mut work = VecDeque::from([first]);
    while let Some(doomed) = work.pop_front() {
        let Some(object) = store.fetch(doomed.kind, &doomed.key.0, &doomed.key.1).cloned() else { continue };
        if doomed.kind.is::<Namespace>() {
            end_namespace(store, &object);
        } else if let Some(grace) = must_wait(&doomed, &object) {
            mark(store, doomed.kind, &object, grace);
        } else if let Some(object) = store.remove(doomed.kind, &doomed.key) {
            work.extend(orphans(store, &object, doomed.orphan));
        }
        finish_namespace(store, &doomed.key.0);
    }
}

/// How many seconds the object stays, if it does: a pod until its kubelet has ended it, anything with finalizers until
/// they are removed.
fn must_wait(doomed: &Doomed, object: &Value) -> Option<i64> {
    let mut grace = 0;
    if doomed.kind.is::<Pod>() && !text(object, "/spec/nodeName").is_empty() {
        let own = object.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_i64);
        let running = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);
        grace = doomed.grace.or(own).unwrap_or(30).max(0).min(running.unwrap_or(i64::MAX));
    }
    (grace > 0 || has_finalizers(object)).then_some(grace)
}

fn mark(store: &mut Store, kind: &Kind, object: &Value, grace: i64) {
    let is_same = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64) == Some(grace);
    if is_same && !text(object, "/metadata/deletionTimestamp").is_empty() {
        return;
    }
    let mut object = object.clone();
    let end = jiff::Timestamp::now().saturating_add(jiff::SignedDuration::from_secs(grace));
    let end = end.map(|end| end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()).unwrap_or_else(|_| super::core::now());
    let metadata = entry(fields(&mut object), "metadata");
    metadata.insert("deletionTimestamp".into(), end.into());
    metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    store.put(kind, object);
}

fn has_finalizers(object: &Value) -> bool {
    items(object, "/metadata/finalizers").next().is_some()
}

/// Marks a namespace; a controller deletes its contents, the last of which takes it along.
fn end_namespace(store: &mut Store, namespace: &Value) {
    if text(namespace, "/metadata/deletionTimestamp").is_empty() {
        let mut marked = namespace.clone();
        let object = fields(&mut marked);
        entry(object, "metadata").insert("deletionTimestamp".into(), super::core::now().into());
        entry(object, "status").insert("phase".into(), json!("Terminating"));
        store.put(kind::of::<Namespace>(), marked);
    }
}

/// Removes a marked namespace that has become empty.
fn finish_namespace(store: &mut Store, name: &str) {
    let kind = kind::of::<Namespace>();
    let is_marked = |namespace: &Object| !text(namespace, "/metadata/deletionTimestamp").is_empty();
    if !store.fetch(kind, "", name).is_some_and(is_marked) {
        return;
    }
    let is_empty = |kind: &&Kind| store.iter(kind, Some(name)).next().is_none();
    if kind::all().iter().filter(|kind| kind.namespaced).all(|kind| is_empty(&kind)) {
        store.remove(kind, &(String::new(), name.to_owned()));
    }
}

/// What the removed object owned: to be deleted when no owner is left, or released.
fn orphans(store: &mut Store, owner: &Value, release: bool) -> Vec<Doomed> {
    let uid = text(owner, "/metadata/uid");
    let is_owned =
        |object: &&Object| items(object, "/metadata/ownerReferences").any(|owner| text(owner, "/uid") == uid);
    let mut doomed = Vec::new();
    for kind in kind::all() {
        let owned: Vec<_> = store.iter(kind, None).filter(is_owned).cloned().collect();
        for object in owned {
            if release {
                let mut object = (*object).clone();
                let references = object.pointer_mut("/metadata/ownerReferences").and_then(Value::as_array_mut);
                references.into_iter().for_each(|references| references.retain(|owner| text(owner, "/uid") != uid));
                store.put(kind, object);
            } else if !has_owner(store, &object) {
                doomed.push(Doomed { kind, key: store::key(&object), grace: None, orphan: false });
            }
        }
    }
    doomed
}

fn has_owner(store: &Store, object: &Value) -> bool {
    let namespace = text(object, "/metadata/namespace");
    items(object, "/metadata/ownerReferences").any(|owner| {
        let Some(kind) = kind::by_name(text(owner, "/apiVersion"), text(owner, "/kind")) else { return false };
        let namespace = if kind.namespaced { namespace } else { "" };
        let found = store.fetch(kind, namespace, text(owner, "/name"));
        found.is_some_and(|found| text(found, "/metadata/uid") == text(owner, "/uid"))
    })
}
