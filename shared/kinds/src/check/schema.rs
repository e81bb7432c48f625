//! Schemas of the kinds that can be checked, generated once from their Rust types.

use std::sync::{LazyLock, OnceLock};

use k8s_openapi::api::{apps, autoscaling, batch, coordination, core, discovery, events, networking, policy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::table;

/// The schema of one kind; `$ref`s point into its own definitions.
pub(super) struct Schema {
    root: Value,
}

impl Schema {
    fn of<T: JsonSchema>() -> Self {
        let mut root = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value();
        add_metadata(&mut root);
        drop_descriptions(&mut root);
        Self { root }
    }

    /// The schema of the whole object.
    pub(super) fn root(&self) -> &Value {
        self.resolve(&self.root)
    }

    /// Follows references, single-element `allOf`s and `anyOf`s with `null` to the schema that says something.
    pub(super) fn resolve<'a>(&'a self, mut schema: &'a Value) -> &'a Value {
        // The bound is a guard against a schema that refers to itself; none comes near it.
        for _ in 0..16 {
            if schema.get("properties").is_some() {
                return schema;
            }
            let next = if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
                self.root.pointer(reference.trim_start_matches('#'))
            } else {
                ["allOf", "anyOf", "oneOf"].iter().find_map(|key| sole(schema.get(*key)?.as_array()?))
            };
            match next {
                Some(next) => schema = next,
                None => return schema,
            }
        }
        schema
    }
}

/// The only branch that is not `null`.
fn sole(branches: &[Value]) -> Option<&Value> {
    let mut others = branches.iter().filter(|branch| branch.get("type") != Some(&Value::from("null")));
    others.next().filter(|_| others.next().is_none())
}

/// Custom resources leave their type and metadata out of their schema.
fn add_metadata(root: &mut Value) {
    let mut metadata = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<ObjectMeta>().to_value();
    let definitions = metadata.as_object_mut().and_then(|metadata| metadata.remove("$defs"));
    let Some(root) = root.as_object_mut() else { return };
    if let Some(Value::Object(properties)) = root.get_mut("properties") {
        for name in ["apiVersion", "kind"] {
            properties.entry(name).or_insert_with(|| serde_json::json!({"type": "string"}));
        }
        properties.entry("metadata").or_insert(metadata);
    }
    if let (Some(Value::Object(definitions)), Value::Object(all)) =
        (definitions, root.entry("$defs").or_insert_with(|| Value::Object(Map::new())))
    {
        for (name, definition) in definitions {
            all.entry(name).or_insert(definition);
        }
    }
}

/// Descriptions are most of a schema's bytes and nobody reads them here.
fn drop_descriptions(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may itself be called `description`; then its value is a schema, not text.
            if fields.get("description").is_some_and(Value::is_string) {
                fields.remove("description");
            }
            fields.values_mut().for_each(drop_descriptions);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_descriptions),
        _ => {}
    }
}

/// A group, a kind in it, and how to make its schema.
struct Row {
    group: &'static str,
    kind: &'static str,
    make: fn() -> Schema,
    made: OnceLock<Schema>,
}

const fn row(group: &'static str, kind: &'static str, make: fn() -> Schema) -> Row {
    Row { group, kind, make, made: OnceLock::new() }
}

/// The schema of a kind that is served in this version; each is generated when first asked for.
pub(super) fn find(api_version: &str, kind: &str) -> Option<&'static Schema> {
    let group = table::find(api_version, kind)?.group;
    let row = ROWS.iter().find(|row| row.group == group && row.kind == kind)?;
    Some(row.made.get_or_init(row.make))
}

const GATEWAY: &str = "gateway.networking.k8s.io";

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    vec![
        row("", "Namespace", Schema::of::<core::v1::Namespace>),
        row("", "Node", Schema::of::<core::v1::Node>),
        row("", "Pod", Schema::of::<core::v1::Pod>),
        row("", "Service", Schema::of::<core::v1::Service>),
        row("", "ServiceAccount", Schema::of::<core::v1::ServiceAccount>),
        row("", "ConfigMap", Schema::of::<core::v1::ConfigMap>),
        row("", "Secret", Schema::of::<core::v1::Secret>),
        row("", "Event", Schema::of::<core::v1::Event>),
        row("events.k8s.io", "Event", Schema::of::<events::v1::Event>),
        row("discovery.k8s.io", "EndpointSlice", Schema::of::<discovery::v1::EndpointSlice>),
        row("coordination.k8s.io", "Lease", Schema::of::<coordination::v1::Lease>),
        row("apps", "Deployment", Schema::of::<apps::v1::Deployment>),
        row("apps", "ReplicaSet", Schema::of::<apps::v1::ReplicaSet>),
        row("apps", "DaemonSet", Schema::of::<apps::v1::DaemonSet>),
        row("batch", "Job", Schema::of::<batch::v1::Job>),
        row("autoscaling", "HorizontalPodAutoscaler", Schema::of::<autoscaling::v2::HorizontalPodAutoscaler>),
        row("policy", "PodDisruptionBudget", Schema::of::<policy::v1::PodDisruptionBudget>),
        row("networking.k8s.io", "NetworkPolicy", Schema::of::<networking::v1::NetworkPolicy>),
        row(GATEWAY, "GatewayClass", Schema::of::<gateway_api::gatewayclasses::GatewayClass>),
        row(GATEWAY, "Gateway", Schema::of::<gateway_api::gateways::Gateway>),
        row(GATEWAY, "HTTPRoute", Schema::of::<gateway_api::httproutes::HttpRoute>),
        row(GATEWAY, "GRPCRoute", Schema::of::<gateway_api::grpcroutes::GrpcRoute>),
        row(GATEWAY, "TLSRoute", Schema::of::<gateway_api::tlsroutes::TlsRoute>),
        row(GATEWAY, "ReferenceGrant", Schema::of::<gateway_api::referencegrants::ReferenceGrant>),
        row(GATEWAY, "BackendTLSPolicy", Schema::of::<gateway_api::backendtlspolicies::BackendTlsPolicy>),
        row(GATEWAY, "ListenerSet", Schema::of::<gateway_api::listenersets::ListenerSet>),
        row(crate::security::GROUP, "PeerAuthentication", Schema::of::<crate::PeerAuthentication>),
        row(crate::security::GROUP, "AuthorizationPolicy", Schema::of::<crate::AuthorizationPolicy>),
        row(crate::security::GROUP, "RequestAuthentication", Schema::of::<crate::RequestAuthentication>),
        row(crate::networking::GROUP, "ServiceEntry", Schema::of::<crate::ServiceEntry>),
        row(crate::networking::GROUP, "WorkloadEntry", Schema::of::<crate::WorkloadEntry>),
    ]
});
