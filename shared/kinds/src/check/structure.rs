//! Walks an object along its schema and names what does not fit.

use serde_json::{Map, Value};

use super::nearest::nearest;
use super::schema::Schema;
use crate::finding::{Finding, ObjectRef, Problem, Severity};

/// Everything in the object that its schema has no place for.
pub(super) fn check(schema: &Schema, object: ObjectRef, value: &Value) -> Vec<Finding> {
    let mut walk = Walk { schema, object, above: Vec::new(), findings: Vec::new() };
    walk.value(schema.root(), value, "");
    walk.findings
}

/// The state of one walk.
struct Walk<'a> {
    schema: &'a Schema,
    object: ObjectRef,
    /// Objects on the way down with their paths, outermost first: where a misplaced field may belong.
    above: Vec<(String, &'a Value)>,
    findings: Vec<Finding>,
}

impl<'a> Walk<'a> {
    fn value(&mut self, schema: &'a Value, value: &Value, path: &str) {
        let schema = self.schema.resolve(schema);
        // The API server drops nulls.
        if value.is_null() {
            return;
        }
        match (value, declared(schema)) {
            (_, None) => {}
            (Value::Object(fields), Some("object")) => self.fields(schema, fields, path),
            (Value::Array(items), Some("array")) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.value(schema, item, &format!("{path}[{index}]"));
                    }
                }
            }
            (Value::String(text), Some("string")) => self.choice(schema, text, path),
            (Value::Bool(_), Some("boolean")) | (Value::Number(_), Some("number")) => {}
            (Value::Number(number), Some("integer")) if is_whole(number) => {}
            (_, Some(expected)) => self.wrong_type(value, expected, path),
        }
    }

    fn fields(&mut self, schema: &'a Value, fields: &Map<String, Value>, path: &str) {
        let properties = schema.get("properties").and_then(Value::as_object);
        let others = schema.get("additionalProperties");
        let Some(properties) = properties else {
            if let Some(others @ Value::Object(_)) = others {
                for (name, value) in fields {
                    self.value(others, value, &join(path, name));
                }
            }
            return;
        };
        self.above.push((path.to_owned(), schema));
        for (name, value) in fields {
            let path = join(path, name);
            match (properties.get(name), others) {
                (Some(schema), _) => self.value(schema, value, &path),
                (None, Some(others @ Value::Object(_))) => self.value(others, value, &path),
                (None, Some(Value::Bool(true))) => {}
                (None, _) => self.unknown(properties, name, value, &path),
            }
        }
        self.above.pop();
        self.required(schema, fields, path);
    }

    /// Names an unknown field, and goes on below it as if it were the one that was meant.
    fn unknown(&mut self, properties: &'a Map<String, Value>, name: &str, value: &Value, path: &str) {
        let meant = nearest(name, properties.keys().map(String::as_str));
        let elsewhere = if meant.is_none() { self.elsewhere(name) } else { None };
        let mut names: Vec<&str> = properties.keys().map(String::as_str).collect();
        names.sort_unstable();
        let expected = match names.as_slice() {
            [] => "no field here".to_owned(),
            [one] => format!("{one} alone"),
            many => format!("one of {}", many.join(", ")),
        };
        let advice = match &elsewhere {
            Some(place) => format!("{name} belongs at {place}{}", hint(&self.object.kind, name)),
            None => String::new(),
        };
        let nearest = elsewhere.or_else(|| meant.map(str::to_owned));
        let finding = self.add(path, Problem::UnknownField, name, expected);
        finding.nearest = nearest;
        finding.advice = advice;
        if let Some(schema) = meant.and_then(|meant| properties.get(meant)) {
            self.value(schema, value, path);
        }
    }

    /// Where a field of this name does exist: beside an enclosing object, or below one of them.
    fn elsewhere(&self, name: &str) -> Option<String> {
        for (path, schema) in self.above.iter().rev() {
            if let Some(place) = self.below(schema, name, path, 3) {
                return Some(place);
            }
        }
        None
    }

    /// The shallowest field of this name at most `depth` objects down, not looking into lists.
    fn below(&self, schema: &'a Value, name: &str, path: &str, depth: u8) -> Option<String> {
        let properties = schema.get("properties").and_then(Value::as_object)?;
        // Whole-object names such as `metadata` and `status` are no places for a lost field.
        let is_candidate =
            |key: &str| !(path.is_empty() && matches!(key, "apiVersion" | "kind" | "metadata" | "status"));
        if properties.contains_key(name) && is_candidate(name) {
            return Some(join(path, name));
        }
        if depth == 0 {
            return None;
        }
        properties
            .iter()
            .filter(|(key, _)| is_candidate(key))
            .find_map(|(key, schema)| self.below(self.schema.resolve(schema), name, &join(path, key), depth - 1))
    }

    fn required(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            // A custom resource may leave its spec out: every field of it has a default.
            let is_missing = fields.get(name).is_none_or(Value::is_null) && !path.is_empty();
            // An author who misspelt the name is told so already.
            let is_misspelt = fields.keys().any(|found| nearest(found, [name]).is_some());
            if is_missing && !is_misspelt {
                let expected = "a value: the field is required".to_owned();
                self.add(&join(path, name), Problem::Missing, "", expected);
            }
        }
    }

    fn choice(&mut self, schema: &Value, text: &str, path: &str) {
        let Some(choices) = choices(schema) else { return };
        if !choices.contains(&text) {
            let nearest = nearest(text, choices.iter().copied()).map(str::to_owned);
            let expected = format!("one of {}", choices.join(", "));
            self.add(path, Problem::BadValue, text, expected).nearest = nearest;
        }
    }

    fn wrong_type(&mut self, value: &Value, expected: &str, path: &str) {
        let found = match value {
            Value::Object(_) => "an object".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            scalar => format!("the {} {scalar}", name_of(scalar)),
        };
        let expected = match expected {
            "object" => "an object",
            "array" => "a list",
            "integer" => "a whole number",
            "number" => "a number",
            "boolean" => "true or false",
            _ => "text",
        };
        let advice = match (value, expected) {
            (Value::Number(_) | Value::Bool(_), "text") => format!("write \"{value}\" in quotes"),
            _ => String::new(),
        };
        self.add(path, Problem::WrongType, &found, expected.to_owned()).advice = advice;
    }

    fn add(&mut self, path: &str, problem: Problem, found: &str, expected: String) -> &mut Finding {
        self.findings.push(Finding {
            object: self.object.clone(),
            path: path.to_owned(),
            severity: Severity::Refused,
            problem,
            found: found.to_owned(),
            expected,
            nearest: None,
            advice: String::new(),
        });
        self.findings.last_mut().expect("one was pushed just now")
    }
}

/// What else the author of a misplaced field must know.
fn hint(kind: &str, field: &str) -> &'static str {
    match (kind, field) {
        ("PeerAuthentication", "portLevelMtls") => ", beside mtls, and needs a selector",
        _ => "",
    }
}

/// The one type that a schema declares; `None` if it takes more than one.
fn declared(schema: &Value) -> Option<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => Some(one),
        Some(Value::Array(many)) => {
            let mut others = many.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            others.next().filter(|_| others.next().is_none())
        }
        // Enumerations with documented values come as a list of constants.
        _ => choices(schema).map(|_| "string"),
    }
}

fn choices(schema: &Value) -> Option<Vec<&str>> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.iter().filter_map(Value::as_str).collect());
    }
    schema.get("oneOf").and_then(Value::as_array)?.iter().map(|branch| branch.get("const")?.as_str()).collect()
}

fn is_whole(number: &serde_json::Number) -> bool {
    number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        _ => "text",
    }
}

/// Puts a field's name behind a path; a name with dots is put in brackets, as kubectl does.
fn join(path: &str, name: &str) -> String {
    match (path, name.contains('.')) {
        ("", _) => name.to_owned(),
        (_, false) => format!("{path}.{name}"),
        (_, true) => format!("{path}[{name}]"),
    }
}
