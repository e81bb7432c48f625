//! Checks of objects against what their kind allows: fields, types and values.

mod authorization_policy;
mod nearest;
mod peer_authentication;
mod request_authentication;
mod schema;
mod service_entry;
mod structure;

use serde_json::Value;

use crate::finding::{Finding, ObjectRef, Problem, Severity};
use crate::{AuthorizationPolicy, PeerAuthentication, RequestAuthentication, ServiceEntry, WorkloadEntry, typed};

pub use authorization_policy::http_attributes;
pub use nearest::nearest;

/// Everything that is wrong with an object: unknown fields, wrong types and, if those are in order, bad values.
///
/// An object of a kind without a schema here yields nothing; [`has_schema`] tells.
#[must_use]
pub fn object(object: &Value) -> Vec<Finding> {
    let reference = ObjectRef::of(object);
    let mut findings = structure(&reference.api_version, &reference.kind, object);
    findings.extend(values(&reference.api_version, &reference.kind, object));
    findings
}

/// Fields that the kind does not have, each with the nearest valid name and what was expected.
///
/// An empty result for a kind that this crate has no schema of means "not checked"; [`has_schema`] tells.
#[must_use]
pub fn unknown_fields(api_version: &str, kind: &str, object: &Value) -> Vec<Finding> {
    let mut findings = structure(api_version, kind, object);
    findings.retain(|finding| finding.problem == Problem::UnknownField);
    findings
}

/// Unknown fields, fields of the wrong type, enumeration values that do not exist, required fields that are missing.
#[must_use]
pub fn structure(api_version: &str, kind: &str, object: &Value) -> Vec<Finding> {
    let Some(schema) = schema::find(api_version, kind) else { return Vec::new() };
    structure::check(schema, ObjectRef::of(object), object)
}

/// Whether objects of this kind can be checked.
#[must_use]
pub fn has_schema(api_version: &str, kind: &str) -> bool {
    schema::find(api_version, kind).is_some()
}

/// Values of the right type that make no sense, or that cannot be honoured at layer 4.
#[must_use]
pub fn values(api_version: &str, kind: &str, object: &Value) -> Vec<Finding> {
    let group = crate::table::split(api_version).0;
    let (is_security, is_networking) = (group == crate::security::GROUP, group == crate::networking::GROUP);
    let mut report = Report { object: ObjectRef::of(object), findings: Vec::new() };
    // What does not fit its type was named by the structure check.
    match kind {
        "PeerAuthentication" if is_security => {
            if let Ok(object) = typed::<PeerAuthentication>(object) {
                peer_authentication::check(&object.spec, &mut report);
            }
        }
        "AuthorizationPolicy" if is_security => {
            if let Ok(object) = typed::<AuthorizationPolicy>(object) {
                authorization_policy::check(&object.spec, &mut report);
            }
        }
        "RequestAuthentication" if is_security => {
            if let Ok(object) = typed::<RequestAuthentication>(object) {
                request_authentication::check(&object.spec, &mut report);
            }
        }
        "ServiceEntry" if is_networking => {
            if let Ok(object) = typed::<ServiceEntry>(object) {
                service_entry::check(&object.spec, &mut report);
            }
        }
        "WorkloadEntry" if is_networking => {
            if let Ok(object) = typed::<WorkloadEntry>(object) {
                service_entry::endpoint(&object.spec, "spec", &mut report);
            }
        }
        _ => {}
    }
    report.findings
}

/// Collects the findings about one object.
struct Report {
    object: ObjectRef,
    findings: Vec<Finding>,
}

impl Report {
    fn bad_value(&mut self, path: &str, found: &str, expected: &str) -> &mut Finding {
        self.add(path, Severity::Refused, Problem::BadValue, found, expected)
    }

    fn missing(&mut self, path: &str, expected: &str) -> &mut Finding {
        self.add(path, Severity::Refused, Problem::Missing, "", expected)
    }

    fn unsupported(&mut self, path: &str, found: impl Into<String>, advice: &str) -> &mut Finding {
        let finding = self.add(path, Severity::NotHonoured, Problem::Unsupported, found, "");
        advice.clone_into(&mut finding.advice);
        finding
    }

    fn add(
        &mut self,
        path: &str,
        severity: Severity,
        problem: Problem,
        found: impl Into<String>,
        expected: &str,
    ) -> &mut Finding {
        let finding = Finding {
            object: self.object.clone(),
            path: path.to_owned(),
            severity,
            problem,
            found: found.into(),
            expected: expected.to_owned(),
            nearest: None,
            advice: String::new(),
        };
        self.findings.push(finding);
        self.findings.last_mut().expect("one was pushed just now")
    }
}

#[cfg(test)]
mod tests;
