//! When two pod templates are the same.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::{Map, Value};

use crate::api::Status;

/// The label that tells the pods of two templates apart.
pub(super) const HASH: &str = "pod-template-hash";

/// Fields whose zero means the same as their absence: Go's types have no other way to say that nothing is given, and
/// `kubectl rollout undo` sends a template through them.
const ZEROABLE: &[&str] =
    &["hostNetwork", "hostPID", "hostIPC", "stdin", "stdinOnce", "tty", "readOnly", "hostPort", "initialDelaySeconds"];

/// Maps that are the same empty and absent.
const MAPS: &[&str] = &["annotations", "labels", "nodeSelector", "limits", "requests"];

/// A template as it compares: without the label that the Deployment adds, and without what means nothing.
///
/// # Errors
/// Never in practice: the template was JSON before.
pub(super) fn canonical(template: &PodTemplateSpec) -> Result<Value, Status> {
    let mut template = serde_json::to_value(template).map_err(|error| Status::bad_request(error.to_string()))?;
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.shift_remove(HASH);
    }
    drop_nothings(&mut template);
    Ok(template)
}

fn drop_nothings(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_nothings);
            fields.retain(|name, value| match value {
                Value::Null => false,
                Value::String(text) => !text.is_empty(),
                Value::Array(items) => !items.is_empty(),
                Value::Object(fields) => !(fields.is_empty() && MAPS.contains(&name.as_str())),
                Value::Bool(is_set) => *is_set || !ZEROABLE.contains(&name.as_str()),
                Value::Number(number) => number.as_i64() != Some(0) || !ZEROABLE.contains(&name.as_str()),
            });
            sort(fields);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nothings),
        _ => {}
    }
}

/// Maps from the user come in any order.
fn sort(fields: &mut Map<String, Value>) {
    fields.sort_keys();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(spec: Value, labels: Value) -> Value {
        canonical(&serde_json::from_value(json!({"metadata": {"labels": labels}, "spec": spec})).unwrap()).unwrap()
    }

    #[test]
    fn what_go_drops_does_not_make_another_template() {
        let container = json!({"name": "a", "stdin": false, "command": [], "workingDir": "", "resources": {"limits": {}},
            "env": [{"name": "A", "value": ""}], "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": false}]});
        let full = json!({"hostNetwork": false, "nodeSelector": {}, "containers": [container],
            "volumes": [{"name": "v", "emptyDir": {}}]});
        let sparse = json!({"containers": [{"name": "a", "resources": {}, "env": [{"name": "A"}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v", "emptyDir": {}}]});
        assert_eq!(of(full, json!({"app": "a", HASH: "x"})), of(sparse, json!({"app": "a"})));
    }

    #[test]
    fn what_means_something_makes_another_template() {
        let base = of(json!({"containers": [{"name": "a"}]}), json!({"app": "a"}));
        for spec in [
            json!({"containers": [{"name": "a", "tty": true}]}),
            json!({"containers": [{"name": "a"}], "automountServiceAccountToken": false}),
            json!({"containers": [{"name": "a"}], "terminationGracePeriodSeconds": 0}),
            json!({"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]}),
        ] {
            assert_ne!(of(spec.clone(), json!({"app": "a"})), base, "{spec}");
        }
        assert_ne!(of(json!({"containers": [{"name": "a"}]}), json!({"app": "b"})), base);
    }
}
