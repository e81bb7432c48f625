//! What a check has to say about an object.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// The object is honoured, but its author should know.
    Warning,
    /// The object is valid, but this field has no effect as written; the mesh stays on the closed side.
    NotHonoured,
    /// The object is invalid and must not be admitted.
    Refused,
}

/// The kind of trouble, for those who treat some of them specially.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Problem {
    /// No such field.
    UnknownField,
    /// The value has another JSON type than the field.
    WrongType,
    /// The type is right, the value is not.
    BadValue,
    /// Something that must be there is not.
    Missing,
    /// Valid, but not by the component that would have to enforce it.
    Unsupported,
}

/// The object that a finding is about.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// `group/version`, or `v1` for the core group.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace; empty for cluster-wide objects and where the manifest leaves it out.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectRef {
    /// Reads the reference from an object's JSON; what is missing stays empty.
    #[must_use]
    pub fn of(object: &Value) -> Self {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            api_version: text("/apiVersion"),
            kind: text("/kind"),
            namespace: text("/metadata/namespace"),
            name: text("/metadata/name"),
        }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// One thing that is wrong, or worth knowing, about one field of one object.
///
/// The text names object, field, what was found, what was expected and the nearest valid name:
///
/// ```
/// let object = serde_json::json!({
///     "apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
///     "metadata": {"namespace": "production", "name": "default"},
///     "spec": {"mTLS": {"mode": "STRICT"}},
/// });
/// assert_eq!(
///     kinds::check::object(&object)[0].to_string(),
///     "PeerAuthentication production/default: spec.mTLS: unknown field \"mTLS\", did you mean \"mtls\"? \
///      (expected one of mtls, portLevelMtls, selector)"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The object.
    pub object: ObjectRef,
    /// The field, as in `spec.rules[0].to[1].operation.ports`.
    pub path: String,
    /// How much it matters.
    pub severity: Severity,
    /// What kind of trouble it is.
    pub problem: Problem,
    /// What was found: a field's name or a value.
    pub found: String,
    /// What would have been accepted.
    pub expected: String,
    /// The valid name or value nearest to what was found; a path if it belongs somewhere else.
    pub nearest: Option<String>,
    /// What to do, or what happens until then; a full clause, may be empty.
    pub advice: String,
}

impl Finding {
    /// The text without the object's name.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = format!("{}: ", self.path);
        let found = &self.found;
        text.push_str(&match self.problem {
            Problem::UnknownField => format!("unknown field {found:?}"),
            Problem::WrongType => format!("found {found}"),
            Problem::BadValue => format!("invalid value {found:?}"),
            Problem::Missing => "missing".to_owned(),
            Problem::Unsupported => found.clone(),
        });
        if let Some(nearest) = &self.nearest {
            text.push_str(&format!(", did you mean {nearest:?}?"));
        }
        if !self.expected.is_empty() {
            text.push_str(&format!(" (expected {})", self.expected));
        }
        if !self.advice.is_empty() {
            text.push_str("; ");
            text.push_str(&self.advice);
        }
        text
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.message())
    }
}
