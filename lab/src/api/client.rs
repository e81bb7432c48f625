//! In-process access to the API server's objects: the same rules as over HTTP, without HTTP.

use std::marker::PhantomData;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Status;

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
    /// Leave what it owns, without the owner reference, instead of deleting that too.
    pub orphan: bool,
}

impl DeleteOptions {
    /// Removes the object at once if it still has this uid.
    pub fn now(uid: impl Into<String>) -> Self {
        Self { grace_period: Some(Duration::ZERO), uid: Some(uid.into()), orphan: false }
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

/// What a [`Watch`] reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event<K> {
    /// The object exists, is new to the selection, or has changed.
    Applied(K),
    /// The object is gone or has left the selection; its last state.
    Deleted(K),
    /// Everything that existed at the start has been reported. Once per watch.
    Synced,
}

/// Cheap to clone. Calls are short and do not block on IO: they may be made from async code.
///
/// `namespace` is `None` for kinds without namespaces.
#[derive(Clone)]
pub struct Client {}

#[expect(unused_variables, clippy::todo, reason = "being written")]
impl Client {
    /// One object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn fetch<K: Key>(&self, namespace: Option<&str>, name: &str) -> Result<K, Status> {
        todo!()
    }

    /// All objects of a selection, sorted by namespace and name.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub fn list<K: Key>(&self, selection: &Selection) -> Result<Vec<K>, Status> {
        todo!()
    }

    /// Follows a selection: first what exists, then [`Event::Synced`], then each change. Never loses the last state of
    /// an object, however slow the reader is.
    ///
    /// # Errors
    /// When a selector cannot be read.
    pub fn watch<K: Key>(&self, selection: &Selection) -> Result<Watch<K>, Status> {
        todo!()
    }

    /// Creates an object; returns it with its defaults.
    ///
    /// # Errors
    /// `AlreadyExists`, `Invalid`, `NotFound` for the namespace.
    pub fn create<K: Key>(&self, object: &K) -> Result<K, Status> {
        todo!()
    }

    /// Replaces an object except for its status. A resource version in it must be the current one.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`.
    pub fn replace<K: Key>(&self, object: &K) -> Result<K, Status> {
        todo!()
    }

    /// Replaces only the status of an object.
    ///
    /// # Errors
    /// `NotFound`, `Conflict`, `Invalid`.
    pub fn replace_status<K: Key>(&self, object: &K) -> Result<K, Status> {
        todo!()
    }

    /// Changes an object except for its status.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when the patch names another resource version, `Invalid`.
    pub fn patch<K: Key>(&self, namespace: Option<&str>, name: &str, patch: &Patch) -> Result<K, Status> {
        todo!()
    }

    /// Changes only the status of an object: the patch is of the form `{"status": {…}}`.
    ///
    /// # Errors
    /// As [`Client::patch`].
    pub fn patch_status<K: Key>(&self, namespace: Option<&str>, name: &str, patch: &Patch) -> Result<K, Status> {
        todo!()
    }

    /// Deletes an object and, in the background, what it owns. A pod that runs is marked for deletion; its kubelet ends
    /// it and deletes it again with [`DeleteOptions::now`].
    ///
    /// # Errors
    /// `NotFound`, `Conflict` when the uid is another one.
    pub fn delete<K: Key>(&self, namespace: Option<&str>, name: &str, options: &DeleteOptions) -> Result<(), Status> {
        todo!()
    }

    /// Creates the object, or changes the existing one by merging this over it. Any kind of the table, with
    /// `apiVersion` and `kind` in the object; without a namespace it goes into `default`.
    ///
    /// # Errors
    /// As [`Client::create`] and [`Client::patch`]; unknown fields are refused.
    pub fn apply_json(&self, object: Value) -> Result<Value, Status> {
        todo!()
    }

    /// One object of any kind of the table.
    ///
    /// # Errors
    /// `NotFound`, also when the table has no such kind.
    pub fn fetch_json(
        &self,
        (api_version, kind): (&str, &str),
        namespace: Option<&str>,
        name: &str,
    ) -> Result<Value, Status> {
        todo!()
    }

    /// Deletes one object of any kind of the table.
    ///
    /// # Errors
    /// As [`Client::delete`].
    pub fn delete_json(
        &self,
        (api_version, kind): (&str, &str),
        namespace: Option<&str>,
        name: &str,
    ) -> Result<(), Status> {
        todo!()
    }

    /// Signs a token for a ServiceAccount, as its `token` subresource does.
    ///
    /// # Errors
    /// `NotFound` when the account or the pod does not exist, `Invalid` when the pod runs as another account.
    pub fn create_token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<Token, Status> {
        todo!()
    }

    /// Reports that something happened to a pod, as an Event that `kubectl describe` shows. `reason` is CamelCase.
    pub fn record(&self, pod: &Pod, kind: EventType, reason: &str, message: &str) {
        todo!()
    }
}

/// How an Event is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// As expected.
    Normal,
    /// Something to look at.
    Warning,
}

/// A selection being followed.
pub struct Watch<K> {
    kind: PhantomData<K>,
}

#[expect(clippy::todo, reason = "being written")]
impl<K: Key> Watch<K> {
    /// The next event; `None` once the server has stopped. Cancel safe.
    pub async fn next(&mut self) -> Option<Event<K>> {
        let _ = self.kind;
        todo!()
    }
}
