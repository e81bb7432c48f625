//! Patches: merge (RFC 7386), JSON (RFC 6902) and Kubernetes' strategic merge.

use serde_json::{Map, Value};

use super::kind::Kind;
use super::{Patch, Status};

/// Operations in one JSON patch; the limit of kube-apiserver.
const MAX_OPERATIONS: usize = 10_000;

/// Nesting of an object after a patch. Deeper ones cannot be read back, and would exhaust the stack one day.
const MAX_DEPTH: usize = 100;

/// Values in an object after a patch: `copy` operations double it each time.
const MAX_VALUES: usize = 200_000;

/// Applies a patch to an object.
///
/// # Errors
/// `BadRequest` or `Invalid` when the patch cannot be applied, `UnsupportedMediaType` for a strategic patch of a kind
/// whose lists have no known keys.
pub(crate) fn apply(kind: &Kind, object: &mut Value, patch: &Patch) -> Result<(), Status> {
    match patch {
        Patch::Merge(patch) => {
            require_object(patch)?;
            merge(object, patch);
        }
        Patch::Strategic(_) if kind.is_custom() => {
            return Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json",
            ));
        }
        Patch::Strategic(patch) => {
            require_object(patch)?;
            // The one object of a core kind that is replaced as a whole (`patchStrategy` of its Go type).
            if let ("PodDisruptionBudget", Some(_), Some(selector)) =
                (kind.kind, patch.pointer("/spec/selector"), object.pointer_mut("/spec/selector"))
            {
                *selector = Value::Null;
            }
            strategic(kind.kind, object, patch);
        }
        Patch::Json(patch) => json(object, patch)?,
    }
    bounded(object)
}

fn require_object(patch: &Value) -> Result<(), Status> {
    if patch.is_object() { Ok(()) } else { Err(Status::bad_request("the patch is not a JSON object")) }
}

fn bounded(object: &Value) -> Result<(), Status> {
    let mut count = 0;
    let mut level = vec![object];
    for _ in 0..MAX_DEPTH {
        count += level.len();
        if level.is_empty() {
            return Ok(());
        }
        if count > MAX_VALUES {
            break;
        }
        level = level.into_iter().flat_map(children).collect();
    }
    Err(Status::bad_request("the patched object is too large or nested too deeply"))
}

fn children(value: &Value) -> Box<dyn Iterator<Item = &Value> + '_> {
    match value {
        Value::Array(items) => Box::new(items.iter()),
        Value::Object(fields) => Box::new(fields.values()),
        _ => Box::new(std::iter::empty()),
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    let fields = object(target);
    for (name, change) in changes {
        if change.is_null() {
            fields.shift_remove(name);
        } else {
            merge(fields.entry(name).or_insert(Value::Null), change);
        }
    }
}

fn json(object: &mut Value, patch: &Value) -> Result<(), Status> {
    let refused = |why: String| Status::bad_request(format!("cannot apply the JSON patch: {why}"));
    let operations = patch.as_array().ok_or_else(|| refused("it is not a list".into()))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(refused(format!("more than {MAX_OPERATIONS} operations")));
    }
    for operation in operations {
        let operation: json_patch::PatchOperation =
            serde_json::from_value(operation.clone()).map_err(|error| refused(error.to_string()))?;
        json_patch::patch(object, std::slice::from_ref(&operation)).map_err(|error| {
            Status::invalid("the server rejected our request due to an error in our request:", "", error)
        })?;
        bounded(object)?;
    }
    Ok(())
}

/// [Strategic merge patch](https://github.com/kubernetes/community/blob/main/contributors/devel/sig-api-machinery/strategic-merge-patch.md).
/// `parent` names the field whose value `target` is; the kind at the top.
fn strategic(parent: &str, target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    let fields = object(target);
    if changes.get("$patch").and_then(Value::as_str) == Some("replace") {
        fields.clear();
    }
    if let Some(kept) = changes.get("$retainKeys").and_then(Value::as_array) {
        fields.retain(|name, _| kept.iter().any(|kept| kept == name));
    }
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix("$deleteFromPrimitiveList/") {
            if let Some(Value::Array(items)) = fields.get_mut(list) {
                items.retain(|item| !change.as_array().is_some_and(|gone| gone.contains(item)));
            }
        } else if name.starts_with('$') {
            // Directives: seen above, or an element order, which is seen below.
        } else if change.is_null() || is_deletion(change) {
            fields.shift_remove(name);
        } else if let Value::Array(elements) = change {
            let order = changes.get(&format!("$setElementOrder/{name}"));
            merge_list(parent, name, fields.entry(name).or_insert(Value::Null), (elements, order));
        } else {
            strategic(name, fields.entry(name).or_insert(Value::Null), change);
        }
    }
    sort_untouched(parent, fields, changes);
}

fn is_deletion(change: &Value) -> bool {
    change.get("$patch").and_then(Value::as_str) == Some("delete")
}

/// An order may come alone, for a list whose elements do not change.
fn sort_untouched(parent: &str, fields: &mut Map<String, Value>, changes: &Map<String, Value>) {
    for (name, order) in changes {
        let Some(list) = name.strip_prefix("$setElementOrder/").filter(|list| !changes.contains_key(*list)) else {
            continue;
        };
        if let Some(Value::Array(items)) = fields.get_mut(list) {
            let key = order.as_array().and_then(|order| merge_key(parent, list, order));
            sort(items, key, order);
        }
    }
}

fn merge_list(parent: &str, name: &str, target: &mut Value, (elements, order): (&[Value], Option<&Value>)) {
    let key = merge_key(parent, name, elements);
    let replaces = elements.iter().any(|element| element.get("$patch").and_then(Value::as_str) == Some("replace"));
    let items = list(target);
    if replaces || (key.is_none() && name != "finalizers") {
        *items = elements.iter().filter(|element| element.get("$patch").is_none()).cloned().collect();
        return;
    }
    for element in elements {
        let same = |item: &Value| match key {
            Some(key) => item.get(key) == element.get(key),
            None => item == element,
        };
        let found = items.iter().position(same);
        match found {
            Some(index) if is_deletion(element) => drop(items.remove(index)),
            None if is_deletion(element) => {}
            Some(index) => items.get_mut(index).into_iter().for_each(|item| strategic(name, item, element)),
            None => {
                let mut item = Value::Null;
                strategic(name, &mut item, element);
                items.push(item);
            }
        }
    }
    if let Some(order) = order {
        sort(items, key, order);
    }
}

/// Puts the items into an order given by their keys; items that it does not name stay behind.
fn sort(items: &mut [Value], key: Option<&str>, order: &Value) {
    let order = order.as_array().map(Vec::as_slice).unwrap_or_default();
    items.sort_by_cached_key(|item| {
        let named = |entry: &Value| match key {
            Some(key) => entry.get(key) == item.get(key),
            None => entry == item,
        };
        order.iter().position(named).unwrap_or(usize::MAX)
    });
}

/// The field by which a list of a core kind merges (`patchMergeKey` of its Go type); `None` for lists that are replaced.
fn merge_key(parent: &str, list: &str, elements: &[Value]) -> Option<&'static str> {
    let has = |field| elements.iter().any(|element| element.get(field).is_some());
    match list {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "env"
        | "imagePullSecrets"
        | "resourceClaims" => Some("name"),
        "secrets" if parent == "ServiceAccount" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "volumeDevices" => Some("devicePath"),
        "ports" if ["containers", "initContainers"].contains(&parent) => Some("containerPort"),
        "ports" if parent == "spec" => Some("port"),
        "conditions" | "addresses" if has("type") => Some("type"),
        "topologySpreadConstraints" => Some("topologyKey"),
        "hostAliases" | "podIPs" | "hostIPs" => Some("ip"),
        "ownerReferences" => Some("uid"),
        _ => None,
    }
}

/// The value as an object; anything else is replaced by an empty one.
fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it has just been made an object")
}

fn list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it has just been made a list")
}

#[cfg(test)]
mod tests;
