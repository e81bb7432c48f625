//! In-process access to the API server's objects: the same rules as over HTTP, without HTTP.

mod changes;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::core::{Core, Part, Target, Write, now};
use super::feed::{Feed, From};
use super::intake::FieldValidation;
use super::kind::{self, Kind};
use super::selector::Selector;
use super::store::{Object, text};
use super::{Status, patch, random};

pub use changes::Changes;
pub use watch::{Event, Watch};

/// What a typed call works on: any kind of `k8s_openapi` that the server's table has.
pub trait Key: k8s_openapi::Resource + Serialize + DeserializeOwned {}

impl<K: k8s_openapi::Resource + Serialize + DeserializeOwned> Key for K {}

/// A change to an object. A JSON `null` in a merge or strategic patch removes the field.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 7386.
    Merge(Value),
    /// RFC 6902.
    Json(Value),
    /// Kubernetes' strategic merge: lists of the core kinds merge by their keys.
    Strategic(Value),
}

/// Which objects a list or watch covers; everything by default.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// One namespace, or all.
    pub namespace: Option<String>,
    /// A label selector, such as `app=shop,tier in (a,b),!debug`; empty selects all.
    pub labels: String,
    /// A field selector, such as `spec.nodeName=node-1`; empty selects all.
    pub fields: String,
}

impl Selection {
    /// Everything in one namespace.
    pub fn namespace(namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..Self::default() }
    }

    /// The pods that are bound to a node.
    pub fn node(node: &str) -> Self {
        Self { fields: format!("spec.nodeName={node}"), ..Self::default() }
    }
}

/// How an object is deleted.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// How long a pod may take to end; the pod's own value by default.
    /// Zero removes it at once: how the kubelet finishes a deletion.
    pub grace_period: Option<Duration>,
    /// Refuse with a conflict unless the object has this uid.
    pub uid: Option<String>,
    /// Refuse with a conflict unless the object is in this version.
    pub resource_version: Option<String>,
    /// Leave what it owns, without the owner reference, instead of deleting that too.
    pub orphan: bool,
}

impl DeleteOptions {
    /// Removes the object at once if it still has this uid.
    pub fn now(uid: impl Into<String>) -> Self {
        Self { grace_period: Some(Duration::ZERO), uid: Some(uid.into()), ..Self::default() }
    }
}

/// A token asked for a ServiceAccount.
#[derive(Clone, Debug, Default)]
pub struct TokenRequest {
    /// Who shall accept the token; the API server itself when empty.
    pub audiences: Vec<String>,
    /// How long it is valid; one hour by default, ten minutes at least.
    pub lifetime: Option<Duration>,
    /// Binds the token to this pod: name and uid.
    pub pod: Option<(String, String)>,
}

/// A ServiceAccount token.
#[derive(Clone)]
pub struct Token {
    /// The JWT.
    pub token: String,
    /// When it ends.
    pub expires: jiff::Timestamp,
}

/// How an Event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As expected.
    Normal,
    /// Something to look at.
    Warning,
}

/// Unknown fields are an error of this process.
const WRITE: Write = Write { validation: FieldValidation::Strict, is_dry_run: false };

/// Cheap to clone. Calls are short and do not block on IO: they may be made from async code.
///
/// `namespace` is `None` for kinds without namespaces.
#[derive(Clone)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// One object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn fetch<K: Key>(&self, namespace: Option<&str>, name: &str) -> Result<K, Status> {
        typed(&self.core.fetch(target::<K>(namespace, name))?)
    }

    /// All objects of a selection, sorted by namespace and name.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub fn list<K: Key>(&self, selection: &Selection) -> Result<Vec<K>, Status> {
        let kind = kind::of::<K>();
        let (objects, _) = self.core.list(kind, &selector(kind, selection)?);
        objects.iter().map(typed).collect()
    }

    /// Follows a selection: first what exists, then [`Event::Synced`], then each change. Never loses the last state of
    /// an object, however slow the reader is.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub fn watch<K: Key>(&self, selection: &Selection) -> Result<Watch<K>, Status> {
        let kind = kind::of::<K>();
        let selector = selector(kind, selection)?;
        let feed = Feed::new(Arc::clone(&self.core), kind, selector.clone(), From::Everything)?;
        Ok(Watch::new(Arc::clone(&self.core), kind, selector, feed))
    }

    /// Creates an object; returns it with its defaults.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid`, `NotFound` for the namespace.
    pub fn create<K: Key>(&self, object: &K) -> Result<K, Status> {
        let object = json_of(object)?;
        let namespace = text(&object, "/metadata/namespace").to_owned();
        typed(&self.core.create(target::<K>(Some(&namespace), ""), object, WRITE)?.object)
    }

    /// Replaces an object except for its status. A resource version in it must be the current one.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`.
    pub fn replace<K: Key>(&self, object: &K) -> Result<K, Status> {
        self.put(object, Part::Main)
    }

    /// Replaces only the status of an object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`.
    pub fn replace_status<K: Key>(&self, object: &K) -> Result<K, Status> {
        self.put(object, Part::Status)
    }

    /// Changes an object except for its status.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when the patch names another resource version, `Invalid`.
    pub fn patch<K: Key>(&self, namespace: Option<&str>, name: &str, patch: &Patch) -> Result<K, Status> {
        typed(&self.change(target::<K>(namespace, name), Part::Main, patch)?)
    }

    /// Changes only the status of an object: the patch is of the form `{"status": {…}}`.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub fn patch_status<K: Key>(&self, namespace: Option<&str>, name: &str, patch: &Patch) -> Result<K, Status> {
        typed(&self.change(target::<K>(namespace, name), Part::Status, patch)?)
    }

    /// Deletes an object and, in the background, what it owns. A pod that runs is marked for deletion; its kubelet ends
    /// it and deletes it again with [`DeleteOptions::now`].
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when the uid is another one.
    pub fn delete<K: Key>(&self, namespace: Option<&str>, name: &str, options: &DeleteOptions) -> Result<(), Status> {
        self.core.delete(target::<K>(namespace, name), options, false).map(drop)
    }

    /// Creates the object, or changes the existing one by merging this over it. Any kind of the table, with
    /// `apiVersion` and `kind` in the object; without a namespace it goes into `default`.
    ///
    /// # Errors
    /// As [`Client::create`] and [`Client::patch`]; unknown fields are refused.
    pub fn apply_json(&self, object: Value) -> Result<Value, Status> {
        let (api_version, kind) = (text(&object, "/apiVersion").to_owned(), text(&object, "/kind").to_owned());
        let (namespace, name) =
            (text(&object, "/metadata/namespace").to_owned(), text(&object, "/metadata/name").to_owned());
        let namespace = if namespace.is_empty() { "default" } else { &namespace };
        let target = named_target((&api_version, &kind), Some(namespace), &name)?;
        let created = match self.core.fetch(target) {
            Ok(_) => self.change(target, Part::Main, &Patch::Merge(object)),
            Err(_) => self.core.create(target, object, WRITE).map(|written| written.object),
        };
        created.map(|object| in_version(&object, target))
    }

    /// One object of any kind of the table.
    ///
    /// # Errors
    /// `NotFound`, also when the table has no such kind.
    pub fn fetch_json(&self, kind: (&str, &str), namespace: Option<&str>, name: &str) -> Result<Value, Status> {
        let target = named_target(kind, namespace, name)?;
        Ok(in_version(&self.core.fetch(target)?, target))
    }

    /// Deletes one object of any kind of the table.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub fn delete_json(&self, kind: (&str, &str), namespace: Option<&str>, name: &str) -> Result<(), Status> {
        let target = named_target(kind, namespace, name)?;
        self.core.delete(target, &DeleteOptions::default(), false).map(drop)
    }

    /// Signs a token for a ServiceAccount, as its `token` subresource does.
    ///
    /// # Errors
    /// `NotFound` when the account or the pod does not exist, `BadRequest` when the pod runs as another account.
    pub fn create_token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<Token, Status> {
        self.core.create_token(namespace, account, request)
    }

    /// Reports that something happened to a pod, as an Event that `kubectl describe` shows. `reason` is CamelCase.
    /// An Event that cannot be written is only logged.
    pub fn record(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        let metadata = &pod.metadata;
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        let name = metadata.name.as_deref().unwrap_or_default();
        let now = now();
        let event = json!({
            "metadata": {"namespace": namespace, "name": format!("{name}.{}", random::suffix(10))},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": name, "uid": metadata.uid,
            },
            "type": format!("{kind:?}"), "reason": reason, "message": message, "count": 1,
            "source": {"component": "aquifer-lab"}, "firstTimestamp": now, "lastTimestamp": now,
        });
        let target = target::<k8s_openapi::api::core::v1::Event>(Some(namespace), "");
        if let Err(error) = self.core.create(target, event, WRITE) {
            tracing::debug!(%error, pod = name, reason, "cannot write an Event");
        }
    }

    /// Deletes what is in a namespace that is marked for deletion, and with the last object the namespace.
    ///
    /// # Errors
    /// None; what cannot go yet (pods that run, finalizers) is marked and goes later.
    pub(crate) fn empty_namespace(&self, name: &str) -> Result<(), Status> {
        self.core.empty_namespace(name)
    }

    /// Tells when an object has changed that [`crate::controllers`] act on.
    pub fn changes(&self) -> Changes {
        Changes::new(Arc::clone(&self.core))
    }

    /// Waits until the server has stopped.
    pub async fn stopped(&self) {
        self.core.stopped.cancelled().await;
    }

    fn put<K: Key>(&self, object: &K, part: Part) -> Result<K, Status> {
        let object = json_of(object)?;
        let (namespace, name) =
            (text(&object, "/metadata/namespace").to_owned(), text(&object, "/metadata/name").to_owned());
        let target = target::<K>(Some(&namespace), &name);
        let written = self.core.modify(target, part, WRITE, |current| {
            *current = object;
            Ok(())
        })?;
        typed(&written.object)
    }

    fn change(&self, target: Target<'_>, part: Part, patch: &Patch) -> Result<Object, Status> {
        let written = self.core.modify(target, part, WRITE, |current| patch::apply(target.kind, current, patch))?;
        Ok(written.object)
    }
}

fn target<'a, K: Key>(namespace: Option<&'a str>, name: &'a str) -> Target<'a> {
    let kind = kind::of::<K>();
    Target { kind, version: K::VERSION, namespace: scoped(kind, namespace), name }
}

fn named_target<'a>(
    (api_version, kind): (&'a str, &str),
    namespace: Option<&'a str>,
    name: &'a str,
) -> Result<Target<'a>, Status> {
    let kind = kind::by_name(api_version, kind).ok_or_else(Status::no_such_resource)?;
    let (_, version) = kinds::table::split(api_version);
    Ok(Target { kind, version, namespace: scoped(kind, namespace), name })
}

/// Kinds without namespaces are kept under the empty one.
fn scoped<'a>(kind: &Kind, namespace: Option<&'a str>) -> &'a str {
    namespace.filter(|_| kind.namespaced).unwrap_or_default()
}

fn selector(kind: &Kind, selection: &Selection) -> Result<Selector, Status> {
    Selector::parse(kind, selection.namespace.as_deref(), &selection.labels, &selection.fields)
}

fn in_version(object: &Object, target: Target<'_>) -> Value {
    let mut object = (**object).clone();
    kind::to_version(target.kind, target.version, &mut object);
    object
}

fn typed<K: Key>(object: &Object) -> Result<K, Status> {
    K::deserialize(&**object).map_err(|error| Status::unavailable(format!("a stored {} is broken: {error}", K::KIND)))
}

fn json_of<K: Key>(object: &K) -> Result<Value, Status> {
    serde_json::to_value(object).map_err(|error| Status::bad_request(error.to_string()))
}
