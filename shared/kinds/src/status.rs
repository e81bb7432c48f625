//! The status that Istio's kinds share: conditions, each with the generation that it speaks of.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lenient::integer_or_text;

/// Status of an Istio object, as in
/// [`istio.meta.v1alpha1.IstioStatus`](https://istio.io/latest/docs/reference/config/meta/v1beta1/istio-status/).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioStatus {
    /// What is known about the object, one entry per type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<IstioCondition>,
    /// The generation that the status as a whole speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "integer_or_text")]
    #[schemars(schema_with = "int_or_string")]
    pub observed_generation: Option<i64>,
    /// Messages of an analyzer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validation_messages: Vec<ValidationMessage>,
}

/// One condition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IstioCondition {
    /// The type, unique within the object.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default)]
    pub status: String,
    /// One word in CamelCase.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// When `status` last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Time>,
    /// When the condition was last looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_probe_time: Option<Time>,
    /// The generation of the object that the condition speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "integer_or_text")]
    #[schemars(schema_with = "int_or_string")]
    pub observed_generation: Option<i64>,
}

/// A message of an analyzer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationMessage {
    /// What kind of message it is.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<ValidationMessageType>,
    /// `ERROR`, `WARNING` or `INFO`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level: String,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub documentation_url: String,
}

/// Name and code of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ValidationMessageType {
    /// The name.
    #[serde(default)]
    pub name: String,
    /// The code.
    #[serde(default)]
    pub code: String,
}

pub(crate) fn int_or_string(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": true})
}
