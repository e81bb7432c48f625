//! The operations on objects, as a client asks for them: read, create, change.
//! HTTP and in-process clients come together here.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::defaults::{self, entry, fields};
use super::intake::{self, FieldValidation};
use super::kind::{self, Kind};
use super::selector::Selector;
use super::store::{self, Object, Store, text};
use super::tokens::Signer;
use super::{PodLogs, PodPrograms, Status, admission, collect, random, rules};
use crate::families::Families;

/// What all clients share.
pub(crate) struct Core {
    store: Mutex<Store>,
    revision: watch::Sender<u64>,
    pub(crate) signer: Signer,
    pub(crate) ca_pem: String,
    families: Families,
    pub(crate) logs: OnceLock<Arc<dyn PodLogs>>,
    pub(crate) programs: OnceLock<Arc<dyn PodPrograms>>,
    /// What goes on after the connection that began it is no longer HTTP.
    pub(crate) sessions: TaskTracker,
    pub(crate) stopped: CancellationToken,
}

/// What an operation is about. The namespace is empty for kinds without.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) version: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

/// Which part of an object a change may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything but the status.
    Main,
    /// The status alone.
    Status,
}

/// How a write is treated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Write {
    pub(crate) validation: FieldValidation,
    /// Go through all checks, but keep nothing.
    pub(crate) is_dry_run: bool,
}

/// An object that was written, in the form in which it is kept, and warnings for the client.
pub(crate) struct Written {
    pub(crate) object: Object,
    pub(crate) warnings: Vec<String>,
}

impl Core {
    pub(crate) fn new(signer: Signer, ca_pem: String, families: Families) -> Self {
        Self {
            store: Mutex::new(Store::new(kind::all().len())),
            revision: watch::Sender::new(0),
            signer,
            ca_pem,
            families,
            logs: OnceLock::new(),
            programs: OnceLock::new(),
            sessions: TaskTracker::new(),
            stopped: CancellationToken::new(),
        }
    }

    /// Tells when the revision grows.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// Reads several things at one revision.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        read(&self.lock())
    }

    /// One object, as it is kept.
    pub(crate) fn fetch(&self, target: Target<'_>) -> Result<Object, Status> {
        self.read(|store| fetch(store, target))
    }

    /// The objects of a selection and the revision at which they were read.
    pub(crate) fn list(&self, kind: &Kind, selector: &Selector) -> (Vec<Object>, u64) {
        self.read(|store| {
            let all = store.iter(kind, selector.namespace.as_deref());
            (all.filter(|object| selector.matches(object)).cloned().collect(), store.revision())
        })
    }

    /// As [`Core::list`], at a revision of the past.
    ///
    /// # Errors
    /// `Expired` when it is further back than the kept history; `Timeout` when it has not come yet.
    pub(crate) fn list_at(&self, kind: &Kind, selector: &Selector, revision: u64) -> Result<Vec<Object>, Status> {
        let mut objects = self.read(|store| {
            store.reached(revision)?;
            store.at(kind, revision)
        })?;
        objects.retain(|object| selector.matches(object));
        Ok(objects)
    }

    /// Creates an object; the target's name is not used.
    pub(crate) fn create(&self, target: Target<'_>, body: Value, write: Write) -> Result<Written, Status> {
        let kind = target.kind;
        let (mut object, mut warnings) = intake::read(kind, target.version, body, write.validation)?;
        warnings.extend(kind.caveat().map(str::to_owned));
        locate(target, &mut object)?;
        kind::to_kept(kind, &mut object);
        self.write(|store| {
            let object = admission::create(store, self.families, kind, object)?;
            rules::check(kind, &object)?;
            let (namespace, name) = store::key(&object);
            if store.fetch(kind, &namespace, &name).is_some() {
                return Err(Status::already_exists(&kind.resource(), &name));
            }
            if write.is_dry_run {
                return Ok(Written { object: Arc::new(object), warnings });
            }
            let object = store.put(kind, object);
            if kind.is::<k8s_openapi::api::core::v1::Namespace>() {
                admission::furnish(store, &name, &self.ca_pem)?;
            }
            collect::after_create(store, kind, &object);
            Ok(Written { object, warnings })
        })
    }

    /// Changes one part of an object. `change` gets the object in the target's version; it runs under the lock.
    pub(crate) fn modify(
        &self,
        target: Target<'_>,
        part: Part,
        write: Write,
        change: impl FnOnce(&mut Value) -> Result<(), Status>,
    ) -> Result<Written, Status> {
        let kind = target.kind;
        self.write(|store| {
            let current = fetch(store, target)?;
            let mut proposed = (*current).clone();
            kind::to_version(kind, target.version, &mut proposed);
            change(&mut proposed)?;
            let (mut proposed, warnings) = intake::read(kind, target.version, proposed, write.validation)?;
            check_claims(target, &current, &proposed)?;
            kind::to_kept(kind, &mut proposed);
            let mut next = combine(kind, part, &current, proposed);
            if part == Part::Main {
                admission::update(store, self.families, kind, &current, &mut next)?;
                rules::check(kind, &next)?;
            }
            if next == *current || write.is_dry_run {
                return Ok(Written { object: Arc::new(next), warnings });
            }
            let object = store.put(kind, next);
            collect::after_update(store, kind, &object);
            Ok(Written { object, warnings })
        })
    }

    /// Runs a write under the lock, then wakes the watches.
    pub(crate) fn write<T>(&self, write: impl FnOnce(&mut Store) -> Result<T, Status>) -> Result<T, Status> {
        let mut store = self.lock();
        let result = write(&mut store);
        let revision = store.revision();
        drop(store);
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision.max(*seen)) < revision);
        result
    }

    /// A panic under the lock leaves at worst one operation unfinished; the objects themselves are whole.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn fetch(store: &Store, target: Target<'_>) -> Result<Object, Status> {
    let found = store.fetch(target.kind, target.namespace, target.name).cloned();
    found.ok_or_else(|| Status::not_found(&target.kind.resource(), target.name))
}

/// Puts the object into the namespace of the request and takes away what a client cannot choose.
fn locate(target: Target<'_>, object: &mut Value) -> Result<(), Status> {
    let metadata = entry(fields(object), "metadata");
    match metadata.get("namespace").and_then(Value::as_str) {
        Some(namespace) if namespace != target.namespace && target.kind.namespaced => {
            return Err(Status::bad_request(format!(
                "the namespace of the provided object does not match the namespace sent on the request ({namespace:?} \
                 is not {:?})",
                target.namespace
            )));
        }
        _ if target.kind.namespaced => drop(metadata.insert("namespace".into(), target.namespace.into())),
        _ => drop(metadata.shift_remove("namespace")),
    }
    if metadata.get("resourceVersion").is_some_and(|version| version != "") {
        return Err(Status::bad_request("resourceVersion should not be set on objects to be created"));
    }
    for field in ["selfLink", "managedFields", "deletionTimestamp", "deletionGracePeriodSeconds", "resourceVersion"] {
        metadata.shift_remove(field);
    }
    metadata.insert("uid".into(), random::uid().into());
    metadata.insert("creationTimestamp".into(), now().into());
    if target.kind.has_generation() {
        metadata.insert("generation".into(), 1.into());
    }
    if metadata.get("name").is_none_or(|name| name == "")
        && let Some(prefix) = metadata.get("generateName").and_then(Value::as_str)
    {
        let name = format!("{prefix}{}", random::suffix(5));
        metadata.insert("name".into(), name.into());
    }
    Ok(())
}

/// What a changed object claims to be must be what it is.
fn check_claims(target: Target<'_>, current: &Value, proposed: &Value) -> Result<(), Status> {
    let resource = target.kind.resource();
    for field in ["/metadata/name", "/metadata/namespace"] {
        let (is, claimed) = (text(current, field), text(proposed, field));
        if is != claimed && !claimed.is_empty() {
            return Err(Status::bad_request(format!(
                "{field}: the object says {claimed:?}, but the request is about {is:?}"
            )));
        }
    }
    let uid = text(proposed, "/metadata/uid");
    if !uid.is_empty() && uid != text(current, "/metadata/uid") {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            text(current, "/metadata/uid")
        );
        return Err(Status::conflict(&resource, target.name, why));
    }
    let version = text(proposed, "/metadata/resourceVersion");
    if !version.is_empty() && version != text(current, "/metadata/resourceVersion") {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        return Err(Status::conflict(&resource, target.name, why));
    }
    Ok(())
}

/// The next state of an object: what `part` covers from the proposal, the rest as it is.
fn combine(kind: &Kind, part: Part, current: &Value, mut proposed: Value) -> Value {
    let take = |from: &mut Value| fields(from).shift_remove("status");
    let mut next = if part == Part::Status {
        let mut next = current.clone();
        take(&mut next);
        if let Some(status) = take(&mut proposed) {
            fields(&mut next).insert("status".into(), status);
        }
        if !kind.is_custom() {
            keep_marks(&proposed, &mut next);
        }
        next
    } else {
        if kind.has_status {
            take(&mut proposed);
            if let Some(status) = current.get("status") {
                fields(&mut proposed).insert("status".into(), status.clone());
            }
        }
        keep_metadata(current, &mut proposed);
        defaults::apply(kind, &mut proposed);
        proposed
    };
    if kind.has_generation() && is_respecified(current, &next) {
        let generation = current.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0);
        entry(fields(&mut next), "metadata").insert("generation".into(), json!(generation.saturating_add(1)));
    }
    next
}

/// Labels and annotations may be written along with the status of built-in kinds, as node agents do; with that of
/// custom resources they may not.
fn keep_marks(proposed: &Value, next: &mut Value) {
    let metadata = entry(fields(next), "metadata");
    for name in ["labels", "annotations"] {
        metadata.shift_remove(name);
        if let Some(marks) = proposed.pointer(&format!("/metadata/{name}")) {
            metadata.insert(name.into(), marks.clone());
        }
    }
}

/// Metadata that clients cannot change.
fn keep_metadata(current: &Value, proposed: &mut Value) {
    const KEPT: &[&str] = &[
        "name",
        "generateName",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ];
    let metadata = entry(fields(proposed), "metadata");
    for name in KEPT.iter().chain(&["managedFields", "selfLink"]) {
        metadata.shift_remove(*name);
    }
    for name in KEPT {
        if let Some(value) = current.pointer(&format!("/metadata/{name}")) {
            metadata.insert((*name).into(), value.clone());
        }
    }
}

/// Whether anything but metadata and status differs.
fn is_respecified(current: &Value, next: &Value) -> bool {
    let rest = |object: &Value| {
        let mut rest = object.as_object().cloned().unwrap_or_default();
        rest.retain(|name, _| name != "metadata" && name != "status");
        rest
    };
    rest(current) != rest(next)
}

/// The time in the form of `metav1.Time`.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
