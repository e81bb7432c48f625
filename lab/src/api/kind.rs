//! The kinds that the server serves: rows of the shared table, with what only a server needs to know.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::LazyLock;

use k8s_openapi::Resource;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kinds::table;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads an object into its Rust type and writes it back: refuses wrong types, drops what the type does not have.
type Normalise = fn(Value) -> Result<Value, serde_json::Error>;

/// A row of the shared table that is served.
pub(crate) struct Kind {
    row: &'static table::Kind,
    /// The type of a built-in kind; absent for custom resources.
    pub(crate) normalise: Option<Normalise>,
    /// Where the objects are kept. Two rows may show the same objects (`v1` and `events.k8s.io` Events).
    pub(crate) collection: usize,
}

impl Deref for Kind {
    type Target = table::Kind;

    fn deref(&self) -> &table::Kind {
        self.row
    }
}

impl Kind {
    /// `deployments.apps`, as messages name it.
    pub(crate) fn resource(&self) -> String {
        self.dotted(self.plural)
    }

    /// `Deployment.apps`, as messages about invalid objects name it.
    pub(crate) fn qualified(&self) -> String {
        self.dotted(self.kind)
    }

    fn dotted(&self, name: &str) -> String {
        if self.group.is_empty() { name.to_owned() } else { format!("{name}.{}", self.group) }
    }

    /// Whether it is defined by a CustomResourceDefinition in a real cluster.
    pub(crate) fn is_custom(&self) -> bool {
        self.normalise.is_none()
    }

    /// Whether it is this built-in kind.
    pub(crate) fn is<K: Resource>(&self) -> bool {
        self.kind == K::KIND && self.group == K::GROUP
    }

    /// Whether `metadata.generation` counts changes of the specification.
    pub(crate) fn has_generation(&self) -> bool {
        self.is_custom() || self.is::<Pod>() || ["apps", "policy", "networking.k8s.io"].contains(&self.group)
    }

    /// What whoever creates such an object must know: it is kept and shown, and nothing acts on it.
    pub(crate) fn caveat(&self) -> Option<&'static str> {
        Some(match self.kind {
            "HorizontalPodAutoscaler" => "this lab keeps HorizontalPodAutoscalers, but scales nothing by them",
            "PodDisruptionBudget" => "this lab keeps PodDisruptionBudgets, but holds no deletion of a pod to them",
            "NetworkPolicy" => "this lab keeps NetworkPolicies, but does not enforce them",
            _ => return None,
        })
    }

    /// Fields that a field selector may name, beside `metadata.name` and `metadata.namespace`.
    pub(crate) fn selectable(&self) -> &'static [&'static str] {
        match (self.group, self.kind) {
            ("", "Pod") => &["spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP"],
            ("", "Namespace") => &["status.phase"],
            ("", "Secret") => &["type"],
            ("", "Event") => &[
                "involvedObject.kind",
                "involvedObject.namespace",
                "involvedObject.name",
                "involvedObject.uid",
                "involvedObject.apiVersion",
                "involvedObject.resourceVersion",
                "involvedObject.fieldPath",
                "reason",
                "reportingComponent",
                "source",
                "type",
            ],
            _ => &[],
        }
    }
}

/// All served kinds.
pub(crate) fn all() -> &'static [Kind] {
    &TABLE
}

/// The kind of a REST path.
pub(crate) fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    TABLE.iter().find(|row| row.group == group && row.plural == plural && row.serves(version))
}

/// The kind of an object.
pub(crate) fn by_name(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = table::split(api_version);
    TABLE.iter().find(|row| row.group == group && row.kind == kind && row.serves(version))
}

/// The row of a built-in kind.
///
/// # Panics
/// When it is not served, which is an error of this crate.
pub(crate) fn of<K: Resource>() -> &'static Kind {
    TABLE.iter().find(|row| row.is::<K>()).expect("the kinds that this crate uses are in the table")
}

/// Definitions of custom kinds: here for clients that look for them, with no effect on what is served.
static DEFINITION: table::Kind = table::Kind {
    group: "apiextensions.k8s.io",
    versions: &["v1"],
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    short_names: &["crd", "crds"],
    namespaced: false,
    has_status: true,
};

static TABLE: LazyLock<Vec<Kind>> = LazyLock::new(|| {
    let types = HashMap::from([
        built_in::<Namespace>(),
        built_in::<Node>(),
        built_in::<Pod>(),
        built_in::<Service>(),
        built_in::<EndpointSlice>(),
        built_in::<ServiceAccount>(),
        built_in::<ConfigMap>(),
        built_in::<Secret>(),
        built_in::<Event>(),
        built_in::<NewEvent>(),
        built_in::<Lease>(),
        built_in::<Deployment>(),
        built_in::<ReplicaSet>(),
        built_in::<CustomResourceDefinition>(),
        built_in::<HorizontalPodAutoscaler>(),
        built_in::<PodDisruptionBudget>(),
        built_in::<NetworkPolicy>(),
    ]);
    // Kinds that make pods, and that nothing in the lab acts on (DaemonSet, Job), are not served.
    let core = table::CORE
        .iter()
        .chain([&DEFINITION])
        .filter_map(|row| Some((row, Some(*types.get(&(row.group, row.kind))?))));
    let custom = table::GATEWAY_API.iter().chain(table::ISTIO).map(|row| (row, None));
    let mut table: Vec<_> = core
        .chain(custom)
        .enumerate()
        .map(|(collection, (row, normalise))| Kind { row, normalise, collection })
        .collect();
    let kept = table.iter().find(|row| row.is::<Event>()).map(|row| row.collection);
    for row in table.iter_mut().filter(|row| row.is::<NewEvent>()) {
        row.collection = kept.unwrap_or(row.collection);
    }
    table
});

fn built_in<K: Resource + Serialize + DeserializeOwned>() -> ((&'static str, &'static str), Normalise) {
    ((K::GROUP, K::KIND), |value| serde_json::to_value(serde_json::from_value::<K>(value)?))
}

/// Fields of an Event of `events.k8s.io` and what the core group, in whose form it is kept, calls them.
const EVENT_FIELDS: &[(&str, &str)] = &[
    ("note", "message"),
    ("regarding", "involvedObject"),
    ("reportingController", "reportingComponent"),
    ("deprecatedCount", "count"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedSource", "source"),
];

/// From the form of a request into the form in which the object is kept.
pub(crate) fn to_kept(kind: &Kind, object: &mut Value) {
    if kind.is::<NewEvent>() {
        rename(object, EVENT_FIELDS.iter().copied());
    }
    set_version(
        object,
        if kind.is::<NewEvent>() { "v1".to_owned() } else { kind.api_version(kind.preferred_version()) },
    );
}

/// From the form in which an object is kept into the form of a version.
pub(crate) fn to_version(kind: &Kind, version: &str, object: &mut Value) {
    if kind.is::<NewEvent>() {
        rename(object, EVENT_FIELDS.iter().map(|(new, old)| (*old, *new)));
    }
    set_version(object, kind.api_version(version));
}

/// Whether the object is kept in the form of this version.
pub(crate) fn is_kept_as(kind: &Kind, version: &str) -> bool {
    version == kind.preferred_version() && !kind.is::<NewEvent>()
}

fn rename<'a>(object: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(fields) = object.as_object_mut() else { return };
    for (from, to) in names {
        if let Some(value) = fields.shift_remove(from) {
            fields.insert(to.to_owned(), value);
        }
    }
}

fn set_version(object: &mut Value, api_version: String) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".into(), api_version.into());
    }
}
