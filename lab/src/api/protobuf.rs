//! The protobuf bodies that kubectl sends for objects it makes itself (`kubectl create namespace`), read into JSON.
//!
//! Only what those bodies can hold is described, in `messages.txt`; a field that is not described is refused, never
//! dropped.

mod wire;

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use wire::{Wire, fields};

/// What precedes the envelope.
const MAGIC: &[u8] = b"k8s\0";

/// The field of the envelope that holds the object.
const RAW: u64 = 2;

/// A field of a message: its number, its name in JSON, and what it holds, in the words of the table.
struct Field {
    number: u64,
    name: &'static str,
    kind: &'static str,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// Zero and empty mean: not given. Go's generated code writes them all the same.
    Plain,
    /// Zero and empty are values.
    Optional,
    List,
    /// From text.
    Map,
}

static MESSAGES: LazyLock<HashMap<&str, Vec<Field>>> = LazyLock::new(|| {
    let lines = include_str!("protobuf/messages.txt").lines().filter(|line| !line.starts_with('#'));
    let words = lines.filter_map(|line| line.split_once(' '));
    words.map(|(message, fields)| (message, fields.split(' ').filter_map(field).collect())).collect()
});

fn field(words: &'static str) -> Option<Field> {
    let (name, rest) = words.split_once('=')?;
    let shapes = [("?", Shape::Optional), ("*", Shape::List), ("{}", Shape::Map)];
    let found = shapes.iter().find_map(|(mark, shape)| Some((rest.strip_suffix(mark)?, *shape)));
    let (rest, shape) = found.unwrap_or((rest, Shape::Plain));
    let (number, kind) = rest.split_once(':').unwrap_or((rest, "text"));
    Some(Field { number: number.parse().ok()?, name, kind, shape })
}

/// Reads a body of the media type `application/vnd.kubernetes.protobuf`.
///
/// # Errors
/// What is wrong, or not described here.
pub(crate) fn decode(body: &[u8]) -> Result<Value, String> {
    let envelope = body.strip_prefix(MAGIC).ok_or("the body does not begin with the protobuf magic number")?;
    let mut raw = &[][..];
    let mut head = Map::new();
    for field in fields(envelope) {
        match field? {
            (RAW, Wire::Bytes(bytes)) => raw = bytes,
            field => read("Unknown", field, &mut head)?,
        }
    }
    let Some(Value::Object(mut object)) = head.remove("type") else {
        return Err("the protobuf envelope names no kind; send JSON".into());
    };
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !MESSAGES.get(kind.as_str()).is_some_and(|fields| fields.iter().any(|field| field.name == "metadata"))
        && kind != "DeleteOptions"
    {
        return Err(format!("no protobuf body is read for the kind {kind:?}; send JSON"));
    }
    for field in fields(raw) {
        read(&kind, field?, &mut object)?;
    }
    Ok(Value::Object(object))
}

/// Reads one field of a message into its object. No message holds itself, which bounds the recursion.
fn read(message: &str, (number, wire): (u64, Wire<'_>), object: &mut Map<String, Value>) -> Result<(), String> {
    let field = MESSAGES.get(message).and_then(|fields| fields.iter().find(|field| field.number == number));
    let is_nothing = matches!(wire, Wire::Bytes([]) | Wire::Varint(0));
    let Some(field) = field.filter(|field| !(is_nothing && field.shape == Shape::Plain)) else {
        if is_nothing {
            return Ok(());
        }
        return Err(format!("the protobuf body has an unknown field {number} of {message}; send JSON"));
    };
    let slot = object.entry(field.name);
    match (field.shape, wire) {
        _ if field.kind == "-" => {}
        (Shape::Map, Wire::Bytes(bytes)) => {
            let (key, value) = entry(field.kind, bytes)?;
            if let Value::Object(map) = slot.or_insert_with(|| json!({})) {
                map.insert(key, value);
            }
        }
        (Shape::List, wire) => {
            let item = value(field.kind, wire)?;
            if let Value::Array(list) = slot.or_insert_with(|| json!([])) {
                list.push(item);
            }
        }
        (_, wire) => *slot.or_insert(Value::Null) = value(field.kind, wire)?,
    }
    Ok(())
}

fn entry(kind: &str, bytes: &[u8]) -> Result<(String, Value), String> {
    let (mut key, mut content) = (String::new(), Value::from(""));
    for field in fields(bytes) {
        match field? {
            (1, Wire::Bytes(bytes)) => utf8(bytes)?.clone_into(&mut key),
            (2, wire) => content = value(kind, wire)?,
            _ => return Err("a map entry has another field than key and value".into()),
        }
    }
    Ok((key, content))
}

fn value(kind: &str, wire: Wire<'_>) -> Result<Value, String> {
    Ok(match (kind, wire) {
        ("bool", Wire::Varint(value)) => (value != 0).into(),
        ("int", Wire::Varint(value)) => value.cast_signed().into(),
        ("bytes", Wire::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        ("text", Wire::Bytes(bytes)) => utf8(bytes)?.into(),
        (message, Wire::Bytes(bytes)) if MESSAGES.contains_key(message) => {
            let mut object = Map::new();
            for field in fields(bytes) {
                read(message, field?, &mut object)?;
            }
            flattened(message, object)
        }
        _ => return Err(format!("a protobuf field of the kind {kind} has another type than expected")),
    })
}

/// Some messages are scalars in JSON.
fn flattened(message: &str, mut object: Map<String, Value>) -> Value {
    let name = match message {
        "IntOrString" if object.get("type") == Some(&json!(1)) => "strVal",
        "IntOrString" => return object.remove("intVal").unwrap_or_else(|| json!(0)),
        "Quantity" => "string",
        _ => return Value::Object(object),
    };
    object.remove(name).unwrap_or_default()
}

fn utf8(bytes: &[u8]) -> Result<&str, String> {
    str::from_utf8(bytes).map_err(|_invalid| "a string of the protobuf body is not UTF-8".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One field with bytes, or with a number.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn number(number: u8, value: u8) -> Vec<u8> {
        vec![number << 3, value]
    }

    fn body(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let head = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC, &bytes(1, &head), &bytes(2, raw), &bytes(3, b""), &bytes(4, b"")].concat()
    }

    #[test]
    fn every_message_that_is_referred_to_is_described_and_every_number_is_its_own() {
        for (message, fields) in &*MESSAGES {
            let line =
                include_str!("protobuf/messages.txt").lines().find(|line| line.starts_with(&format!("{message} ")));
            assert_eq!(line.unwrap().split(' ').count(), fields.len() + 1, "{message}");
            for (index, field) in fields.iter().enumerate() {
                let is_scalar = ["text", "bool", "int", "bytes", "-"].contains(&field.kind);
                assert!(is_scalar || MESSAGES.contains_key(field.kind), "{message}.{}: {}", field.name, field.kind);
                assert!(fields[..index].iter().all(|other| other.number != field.number), "{message}.{}", field.name);
            }
        }
    }

    #[test]
    fn maps_lists_and_wrapped_scalars_become_what_they_are_in_json() {
        let entry = |value: &[u8]| [bytes(1, b"k"), bytes(2, value)].concat();
        let metadata = bytes(1, &[bytes(1, b"a"), bytes(8, b""), bytes(14, b"x"), bytes(14, b"y")].concat());
        let secret = [metadata, bytes(2, &entry(&[0xff, 0])), number(5, 0)].concat();
        let expected = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a", "finalizers": ["x", "y"]},
            "data": {"k": "/wA="}, "immutable": false,
        });
        assert_eq!(decode(&body("v1", "Secret", &secret)), Ok(expected));
        let percent = [number(1, 1), number(2, 0), bytes(3, b"50%")].concat();
        let budget = [bytes(1, &percent), bytes(2, &bytes(1, &entry(b"v"))), bytes(3, &number(2, 4))].concat();
        let budget = decode(&body("policy/v1", "PodDisruptionBudget", &bytes(2, &budget))).unwrap();
        let spec = json!({"minAvailable": "50%", "selector": {"matchLabels": {"k": "v"}}, "maxUnavailable": 4});
        assert_eq!(budget["spec"], spec);
    }

    #[test]
    fn zeros_count_where_they_can_be_told_from_nothing() {
        let spec = [number(1, 0), number(5, 0), number(7, 0)].concat();
        let object = decode(&body("apps/v1", "Deployment", &bytes(2, &spec))).unwrap();
        assert_eq!(object["spec"], json!({"replicas": 0}));
    }

    #[test]
    fn what_is_not_described_is_refused() {
        let unknown = bytes(2, &bytes(15, b"x"));
        for (raw, kind) in [(&unknown[..], "Deployment"), (b"", "Pod"), (b"", "IntOrString"), (b"\x08\x01", "Secret")] {
            assert!(decode(&body("v1", kind, raw)).is_err(), "{kind}");
        }
        for malformed in
            [&b""[..], b"k8s", b"k8s\0", b"k8s\0\x0a", b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(decode(malformed).is_err(), "{malformed:?}");
        }
    }
}
