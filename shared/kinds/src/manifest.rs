//! Manifests: YAML (and so JSON) with one or more documents, as users write them for kubectl.

use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

/// Reads every document of a manifest; empty documents are left out and `List` objects are taken apart.
///
/// Map keys may be numbers or booleans, as in `8080: {mode: DISABLE}`; they become text, as kubectl makes them.
///
/// # Errors
/// When the text is not YAML, or a map holds a key twice: the message says where.
pub fn read(text: &str) -> Result<Vec<Value>, ManifestError> {
    let documents: Vec<Document> =
        serde_saphyr::from_multiple_with_options(text, options()).map_err(|error| ManifestError::new(&error))?;
    let mut objects = Vec::with_capacity(documents.len());
    for Document(document) in documents {
        match document {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").and_then(Value::as_str) == Some("List") => {
                if let Some(Value::Array(items)) = list.remove("items") {
                    objects.extend(items);
                }
            }
            other => objects.push(other),
        }
    }
    Ok(objects)
}

/// Words such as `y`, `no` and `on` stay text: where true or false is needed, the check of types names them.
fn options() -> serde_saphyr::Options {
    serde_saphyr::options! { strict_booleans: true }
}

/// Where a manifest is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct ManifestError {
    /// The line, from 1; 0 if unknown.
    pub line: u64,
    /// The column, from 1; 0 if unknown.
    pub column: u64,
    /// What is wrong.
    pub message: String,
}

impl ManifestError {
    fn new(error: &serde_saphyr::Error) -> Self {
        let location = error.location();
        let text = error.without_snippet().to_string();
        // The parser repeats the position in its text; it is told once, in front.
        let message = text.split(" at line ").next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        Self {
            line: location.map_or(0, |location| location.line()),
            column: location.map_or(0, |location| location.column()),
            message,
        }
    }
}

/// A document as JSON, with every scalar key as text.
struct Document(Value);

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any).map(Self)
    }
}

struct Any;

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key_seed(Self)? {
            let key = match key {
                Value::String(text) => text,
                scalar @ (Value::Number(_) | Value::Bool(_) | Value::Null) => scalar.to_string(),
                Value::Array(_) | Value::Object(_) => {
                    return Err(serde::de::Error::custom("a map key must be a scalar"));
                }
            };
            let value = entries.next_value_seed(Self)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(serde::de::Error::custom(format!("the key {key:?} occurs twice in one map")));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn documents_are_split_and_empty_ones_left_out() {
        let text = "# a comment\n---\nkind: A\n---\n---\n# nothing\n---\nkind: B\n...\n";
        assert_eq!(read(text).unwrap(), [json!({"kind": "A"}), json!({"kind": "B"})]);
        assert_eq!(read("").unwrap(), Vec::<Value>::new());
    }

    #[test]
    fn number_keys_become_text() {
        let objects = read("ports:\n  8080:\n    mode: DISABLE\n  \"9090\": {}\n  true: 1\n").unwrap();
        assert_eq!(objects, [json!({"ports": {"8080": {"mode": "DISABLE"}, "9090": {}, "true": 1}})]);
    }

    #[test]
    fn scalars_keep_their_type() {
        let objects =
            read("a: 1\nb: \"1\"\nc: true\nd: 1.5\ne: null\nf: -3\ng: 10.0.0.1\nh: |\n  two\n  lines\ni: n\n");
        let expected = json!({"a": 1, "b": "1", "c": true, "d": 1.5, "e": null, "f": -3, "g": "10.0.0.1", "h": "two\nlines\n", "i": "n"});
        assert_eq!(objects.unwrap(), [expected]);
    }

    #[test]
    fn lists_are_taken_apart() {
        let objects = read("apiVersion: v1\nkind: List\nitems:\n- kind: A\n- kind: B\n").unwrap();
        assert_eq!(objects, [json!({"kind": "A"}), json!({"kind": "B"})]);
    }

    #[test]
    fn json_is_yaml() {
        assert_eq!(read("{\"kind\": \"A\", \"n\": [1, 2]}").unwrap(), [json!({"kind": "A", "n": [1, 2]})]);
    }

    #[test]
    fn an_error_says_where() {
        let error = read("kind: A\n---\nmetadata:\n  name: x\n name: y\n").unwrap_err();
        assert_eq!(error.line, 5, "{error}");
        assert!(error.column > 0, "{error}");
    }

    #[test]
    fn a_key_may_occur_once() {
        let error = read("spec:\n  mtls: {}\n  mtls: {}\n").unwrap_err();
        assert_eq!(error.line, 3, "{error}");
        assert!(error.message.contains("mtls"), "{error}");
    }
}
