//! The protobuf bodies that kubectl sends for objects it makes itself (`kubectl create namespace`), read into JSON.
//!
//! Only what those bodies can hold is described here, from the `generated.proto` files of k8s.io/api; a field that is
//! not described is refused, never dropped.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

/// What precedes the envelope.
const MAGIC: &[u8] = b"k8s\0";

/// Nesting of messages; the descriptions below need six.
const MAX_DEPTH: usize = 16;

/// How a field is written in JSON.
#[derive(Clone, Copy)]
enum Type {
    Text,
    Texts,
    Bool,
    Int,
    /// A map from string to string.
    Map,
    /// A map from string to bytes.
    BytesMap,
    Message(&'static [Field]),
    Messages(&'static [Field]),
    /// Known to be without meaning to the server.
    Ignored,
}

type Field = (u64, &'static str, Type);

use Type::{Bool, BytesMap, Ignored, Int, Map as TextMap, Message, Messages, Text, Texts};

const TYPE_META: &[Field] = &[(1, "apiVersion", Text), (2, "kind", Text)];
const UNKNOWN: &[Field] = &[(1, "type", Message(TYPE_META)), (3, "contentEncoding", Text), (4, "contentType", Text)];
/// The field of the envelope that holds the object.
const RAW: u64 = 2;

const METADATA: &[Field] = &[
    (1, "name", Text),
    (2, "generateName", Text),
    (3, "namespace", Text),
    (5, "uid", Text),
    (6, "resourceVersion", Text),
    (8, "creationTimestamp", Ignored),
    (11, "labels", TextMap),
    (12, "annotations", TextMap),
    (14, "finalizers", Texts),
];
const NAMESPACE: &[Field] = &[
    (1, "metadata", Message(METADATA)),
    (2, "spec", Message(&[(1, "finalizers", Texts)])),
    (3, "status", Message(&[(1, "phase", Text)])),
];
const CONFIG_MAP: &[Field] =
    &[(1, "metadata", Message(METADATA)), (2, "data", TextMap), (3, "binaryData", BytesMap), (4, "immutable", Bool)];
const SECRET: &[Field] = &[
    (1, "metadata", Message(METADATA)),
    (2, "data", BytesMap),
    (3, "type", Text),
    (4, "stringData", TextMap),
    (5, "immutable", Bool),
];
const SERVICE_ACCOUNT: &[Field] = &[(1, "metadata", Message(METADATA)), (4, "automountServiceAccountToken", Bool)];
const BOUND: &[Field] = &[(1, "kind", Text), (2, "apiVersion", Text), (3, "name", Text), (4, "uid", Text)];
const TOKEN_REQUEST: &[Field] = &[
    (1, "metadata", Message(METADATA)),
    (
        2,
        "spec",
        Message(&[(1, "audiences", Texts), (3, "boundObjectRef", Message(BOUND)), (4, "expirationSeconds", Int)]),
    ),
    (3, "status", Ignored),
];
/// A question about the caller; what it asks for in detail does not change the answer.
const REVIEW: &[Field] = &[(1, "metadata", Message(METADATA)), (2, "spec", Ignored), (3, "status", Ignored)];
const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Int),
    (2, "preconditions", Message(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", Bool),
    (4, "propagationPolicy", Text),
    (5, "dryRun", Texts),
];
const CONTAINER: &[Field] = &[
    (1, "name", Text),
    (2, "image", Text),
    (3, "command", Texts),
    (4, "args", Texts),
    (5, "workingDir", Text),
    (6, "ports", Messages(&[(1, "name", Text), (3, "containerPort", Int), (4, "protocol", Text)])),
    (7, "env", Messages(&[(1, "name", Text), (2, "value", Text)])),
    (14, "imagePullPolicy", Text),
    (16, "stdin", Bool),
    (17, "stdinOnce", Bool),
    (18, "tty", Bool),
];
const POD_SPEC: &[Field] = &[
    (2, "containers", Messages(CONTAINER)),
    (3, "restartPolicy", Text),
    (6, "dnsPolicy", Text),
    (8, "serviceAccountName", Text),
    (10, "nodeName", Text),
    (11, "hostNetwork", Bool),
    (12, "hostPID", Bool),
    (13, "hostIPC", Bool),
    (16, "hostname", Text),
    (17, "subdomain", Text),
    (19, "schedulerName", Text),
];
const SELECTOR: &[Field] = &[(1, "matchLabels", TextMap)];
const DEPLOYMENT: &[Field] = &[
    (1, "metadata", Message(METADATA)),
    (
        2,
        "spec",
        Message(&[
            (1, "replicas", Int),
            (2, "selector", Message(SELECTOR)),
            (3, "template", Message(&[(1, "metadata", Message(METADATA)), (2, "spec", Message(POD_SPEC))])),
            (4, "strategy", Message(&[(1, "type", Text)])),
            (5, "minReadySeconds", Int),
            (7, "paused", Bool),
        ]),
    ),
    (3, "status", Ignored),
];
const TARGET_PORT: &[Field] = &[(1, "type", Int), (2, "intVal", Int), (3, "strVal", Text)];
const SERVICE: &[Field] = &[
    (1, "metadata", Message(METADATA)),
    (
        2,
        "spec",
        Message(&[
            (
                1,
                "ports",
                Messages(&[
                    (1, "name", Text),
                    (2, "protocol", Text),
                    (3, "port", Int),
                    (4, "targetPort", Message(TARGET_PORT)),
                    (5, "nodePort", Int),
                ]),
            ),
            (2, "selector", TextMap),
            (3, "clusterIP", Text),
            (4, "type", Text),
            (7, "sessionAffinity", Text),
            (8, "loadBalancerIP", Text),
            (10, "externalName", Text),
            (11, "externalTrafficPolicy", Text),
            (13, "publishNotReadyAddresses", Bool),
        ]),
    ),
    (3, "status", Ignored),
];

fn message(kind: &str) -> Option<&'static [Field]> {
    Some(match kind {
        "Namespace" => NAMESPACE,
        "ConfigMap" => CONFIG_MAP,
        "Secret" => SECRET,
        "ServiceAccount" => SERVICE_ACCOUNT,
        "TokenRequest" => TOKEN_REQUEST,
        "SelfSubjectReview" | "SelfSubjectAccessReview" => REVIEW,
        "DeleteOptions" => DELETE_OPTIONS,
        "Deployment" => DEPLOYMENT,
        "Service" => SERVICE,
        _ => return None,
    })
}

/// Reads a body of the media type `application/vnd.kubernetes.protobuf`.
///
/// # Errors
/// What is wrong, or not described here.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the body does not begin with the protobuf magic number")?;
    let (mut head, mut raw) = (Map::new(), Vec::new());
    for field in fields(envelope) {
        match field? {
            (RAW, Wire::Bytes(bytes)) => raw = bytes.to_vec(),
            (number, wire) => read(UNKNOWN, number, wire, (&mut head, 0))?,
        }
    }
    let meta = head.get("type").cloned().unwrap_or_default();
    let kind = meta.get("kind").and_then(Value::as_str).unwrap_or_default();
    let layout = message(kind).ok_or_else(|| format!("no protobuf body is read for the kind {kind:?}; send JSON"))?;
    let mut object = meta.as_object().cloned().unwrap_or_default();
    for field in fields(&raw) {
        let (number, wire) = field?;
        read(layout, number, wire, (&mut object, 0))?;
    }
    let mut object = Value::Object(object);
    flatten_target_ports(&mut object);
    Ok(object)
}

/// `IntOrString` is a message in protobuf and a scalar in JSON.
fn flatten_target_ports(object: &mut Value) {
    for port in object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(target) = port.get_mut("targetPort") {
            let field = if target.get("type") == Some(&json!(1)) { "strVal" } else { "intVal" };
            *target = target.get(field).cloned().unwrap_or_default();
        }
    }
}

fn read(
    layout: &[Field],
    number: u64,
    wire: Wire<'_>,
    (object, depth): (&mut Map<String, Value>, usize),
) -> Result<(), String> {
    // Go's generated code writes empty strings and zeros, which mean: not given.
    if matches!(wire, Wire::Bytes([]) | Wire::Varint(0)) && !layout.iter().any(|field| is_meant_empty(field, number)) {
        return Ok(());
    }
    let Some((_, name, kind)) = layout.iter().find(|(known, ..)| *known == number) else {
        return Err(format!("the protobuf body has an unknown field {number}; send JSON"));
    };
    if depth > MAX_DEPTH {
        return Err("the protobuf body is nested too deeply".into());
    }
    let nested = |fields: &'static [Field], bytes: &[u8]| decode_message(fields, bytes, depth + 1);
    match (kind, wire) {
        (Ignored, _) => {}
        (Text, Wire::Bytes(bytes)) => insert(object, name, utf8(bytes)?.into()),
        (Texts, Wire::Bytes(bytes)) => push(object, name, utf8(bytes)?.into()),
        (Bool, Wire::Varint(value)) => insert(object, name, (value != 0).into()),
        (Int, Wire::Varint(value)) => insert(object, name, value.cast_signed().into()),
        (Message(fields), Wire::Bytes(bytes)) => insert(object, name, nested(fields, bytes)?),
        (Messages(fields), Wire::Bytes(bytes)) => push(object, name, nested(fields, bytes)?),
        (TextMap | BytesMap, Wire::Bytes(bytes)) => {
            let (key, value) = entry(bytes)?;
            let value =
                if matches!(kind, BytesMap) { BASE64_STANDARD.encode(value).into() } else { utf8(value)?.into() };
            if let Some(map) = object.entry(*name).or_insert_with(|| json!({})).as_object_mut() {
                insert(map, &key, value);
            }
        }
        _ => return Err(format!("the protobuf field {name} has another type than expected")),
    }
    Ok(())
}

/// Whether nothing is something here: an empty element of a list, an optional boolean or number.
fn is_meant_empty((number, _, kind): &Field, wanted: u64) -> bool {
    *number == wanted && matches!(kind, Texts | Bool | Int | Messages(_))
}

fn decode_message(layout: &[Field], bytes: &[u8], depth: usize) -> Result<Value, String> {
    let mut object = Map::new();
    for field in fields(bytes) {
        let (number, wire) = field?;
        read(layout, number, wire, (&mut object, depth))?;
    }
    Ok(Value::Object(object))
}

fn insert(object: &mut Map<String, Value>, name: &str, value: Value) {
    object.insert(name.to_owned(), value);
}

fn push(object: &mut Map<String, Value>, name: &str, value: Value) {
    if let Some(list) = object.entry(name).or_insert_with(|| json!([])).as_array_mut() {
        list.push(value);
    }
}

fn entry(bytes: &[u8]) -> Result<(String, &[u8]), String> {
    let (mut key, mut value) = (String::new(), &[][..]);
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => utf8(bytes)?.clone_into(&mut key),
            (2, Wire::Bytes(bytes)) => value = bytes,
            _ => return Err("a map entry has another field than key and value".into()),
        }
    }
    Ok((key, value))
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_invalid| "a string of the protobuf body is not UTF-8".into())
}

/// A field as it lies on the wire.
enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, [in the wire format](https://protobuf.dev/programming-guides/encoding/).
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<(u64, Wire<'_>), String>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = next_field(&mut rest).ok_or_else(|| "the protobuf body is malformed".to_owned());
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

fn next_field<'a>(rest: &mut &'a [u8]) -> Option<(u64, Wire<'a>)> {
    let tag = varint(rest)?;
    let wire = match tag & 7 {
        0 => Wire::Varint(varint(rest)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            let (bytes, after) = rest.split_at_checked(length)?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        _ => return None,
    };
    Some((tag >> 3, wire))
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
