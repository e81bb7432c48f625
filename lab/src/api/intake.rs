//! From the document that a client sent to an object of its kind: unknown fields, types, values.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{Finding, ObjectRef, Problem, Severity, check};
use serde::Deserialize as _;
use serde_json::Value;

use super::Status;
use super::kind::Kind;
use super::store::text;

/// What happens to fields that a kind does not have
/// ([`fieldValidation`](https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// They are refused.
    Strict,
    /// They are dropped, and the client is told.
    #[default]
    Warn,
    /// They are dropped.
    Ignore,
}

/// Reads a document as an object of a kind; returns it with the warnings for the client.
///
/// Fields that a custom resource does not have are always refused: dropping one from a policy changes what it allows.
///
/// # Errors
/// `BadRequest` for another kind, unknown fields and wrong types; `Invalid` for values that cannot be.
pub(crate) fn read(
    kind: &Kind,
    version: &str,
    mut object: Value,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let api_version = kind.api_version(version);
    identify(kind, &api_version, &mut object)?;
    drop_nulls(&mut object);
    let reference = ObjectRef::of(&object);
    let findings = check::structure(&api_version, kind.kind, &object);
    let (unknown, other): (Vec<_>, Vec<_>) =
        findings.into_iter().partition(|finding| finding.problem == Problem::UnknownField);
    let mut warnings = Vec::new();
    if !unknown.is_empty() {
        let unknown: Vec<_> = unknown.iter().map(unknown_field).collect();
        match validation {
            FieldValidation::Warn if !kind.is_custom() => warnings = unknown,
            FieldValidation::Ignore if !kind.is_custom() => {}
            _ => {
                let why = format!("strict decoding error: {}", unknown.join(", "));
                return Err(undecodable(kind, version, &reference, &why));
            }
        }
    }
    if let Some(finding) = other.iter().find(|finding| finding.problem == Problem::WrongType) {
        return Err(undecodable(kind, version, &reference, &finding.message()));
    }
    let Some(normalise) = kind.normalise else {
        let values = check::values(&api_version, kind.kind, &object);
        refuse(kind, &object, other.iter().chain(&values))?;
        normalise_metadata(&mut object).map_err(|error| undecodable(kind, version, &reference, &error.to_string()))?;
        return Ok((object, warnings));
    };
    let object = normalise(object).map_err(|error| undecodable(kind, version, &reference, &error.to_string()))?;
    Ok((object, warnings))
}

/// Custom resources have no type here, but their metadata has: one broken object would spoil every typed list.
fn normalise_metadata(object: &mut Value) -> Result<(), serde_json::Error> {
    let Some(metadata) = object.get_mut("metadata") else { return Ok(()) };
    *metadata = serde_json::to_value(ObjectMeta::deserialize(&*metadata)?)?;
    Ok(())
}

fn refuse<'a>(kind: &Kind, object: &Value, findings: impl Iterator<Item = &'a Finding>) -> Result<(), Status> {
    let refused: Vec<_> =
        findings.filter(|finding| finding.severity == Severity::Refused).map(Finding::message).collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&kind.qualified(), text(object, "/metadata/name"), refused.join("; ")))
}

/// In the words of kube-apiserver, which are the same for every object, and the name of this one.
fn undecodable(kind: &Kind, version: &str, object: &ObjectRef, why: &str) -> Status {
    let kind = kind.kind;
    let name = match object.namespace.as_str() {
        "" => object.name.clone(),
        namespace => format!("{namespace}/{}", object.name),
    };
    Status::bad_request(format!("{kind} {name:?} in version {version:?} cannot be handled as a {kind}: {why}"))
}

/// As kube-apiserver says it, with what helps to mend it.
fn unknown_field(finding: &Finding) -> String {
    let mut message = format!("unknown field {:?}", finding.path);
    if let Some(nearest) = &finding.nearest {
        message.push_str(&format!(", did you mean {nearest:?}?"));
    }
    if !finding.expected.is_empty() {
        message.push_str(&format!(" (expected {})", finding.expected));
    }
    if !finding.advice.is_empty() {
        message.push_str(&format!("; {}", finding.advice));
    }
    message
}

fn identify(kind: &Kind, api_version: &str, object: &mut Value) -> Result<(), Status> {
    let Some(fields) = object.as_object_mut() else {
        return Err(Status::bad_request("the object in the body is not a JSON object"));
    };
    for (field, expected) in [("apiVersion", api_version), ("kind", kind.kind)] {
        match fields.get(field).and_then(Value::as_str) {
            None | Some("") => drop(fields.insert(field.to_owned(), expected.into())),
            Some(found) if found == expected => {}
            Some(found) => {
                return Err(Status::bad_request(format!(
                    "the {field} in the data ({found}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    if !fields.entry("metadata").or_insert_with(|| Value::Object(serde_json::Map::new())).is_object() {
        return Err(Status::bad_request("metadata is not a JSON object"));
    }
    Ok(())
}

/// In the Kubernetes API `null` means absent.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::kind;

    fn read_as(api_version: &str, name: &str, spec: Value, validation: FieldValidation) -> Result<Vec<String>, Status> {
        let kind = kind::by_name(api_version, name).unwrap();
        let version = kinds::table::split(api_version).1;
        let object = json!({"metadata": {"name": "default", "creationTimestamp": null}, "spec": spec});
        read(kind, version, object, validation).map(|(_, warnings)| warnings)
    }

    #[test]
    fn a_misspelt_field_is_refused_with_the_nearest_name() {
        let spec = json!({"mTLS": {"mode": "STRICT"}});
        for validation in [FieldValidation::Strict, FieldValidation::Warn, FieldValidation::Ignore] {
            let refused =
                read_as("security.istio.io/v1beta1", "PeerAuthentication", spec.clone(), validation).unwrap_err();
            let start = "PeerAuthentication \"default\" in version \"v1beta1\" cannot be handled as a \
                         PeerAuthentication: strict decoding error: unknown field \"spec.mTLS\", did you mean \"mtls\"?";
            assert!(refused.message.starts_with(start), "{refused}");
        }
    }

    #[test]
    fn an_unknown_field_of_a_built_in_kind_is_refused_warned_of_or_dropped() {
        let spec = json!({"containers": [{"name": "a", "image": "b", "port": []}]});
        let refused = read_as("v1", "Pod", spec.clone(), FieldValidation::Strict).unwrap_err();
        assert!(refused.message.contains("unknown field \"spec.containers[0].port\""), "{refused}");
        let warnings = read_as("v1", "Pod", spec.clone(), FieldValidation::Warn).unwrap();
        assert!(warnings[0].starts_with("unknown field \"spec.containers[0].port\""), "{warnings:?}");
        assert!(read_as("v1", "Pod", spec, FieldValidation::Ignore).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_type_is_a_bad_request_and_a_wrong_value_invalid() {
        let refused =
            read_as("apps/v1", "Deployment", json!({"replicas": "three"}), FieldValidation::Strict).unwrap_err();
        assert_eq!(refused.reason, "BadRequest");
        let spec = json!({"mtls": {"mode": "STRONG"}});
        let refused = read_as("security.istio.io/v1", "PeerAuthentication", spec, FieldValidation::Strict).unwrap_err();
        assert_eq!(refused.reason, "Invalid", "{refused}");
    }

    #[test]
    fn broken_metadata_of_a_custom_resource_is_refused() {
        let kind = kind::by_name("networking.istio.io/v1", "VirtualService").unwrap();
        for (field, value) in [("labels", json!([])), ("finalizers", json!("x")), ("ownerReferences", json!([1]))] {
            let object = json!({"metadata": {"name": "a", field: value}});
            assert!(read(kind, "v1", object, FieldValidation::Warn).is_err(), "{field}");
        }
    }

    #[test]
    fn another_kind_or_no_object_is_refused() {
        let pod = kind::by_name("v1", "Pod").unwrap();
        for body in [json!({"kind": "Service"}), json!({"apiVersion": "v2"}), json!([]), json!({"metadata": 1})] {
            assert!(read(pod, "v1", body.clone(), FieldValidation::Strict).is_err(), "{body}");
        }
    }
}
