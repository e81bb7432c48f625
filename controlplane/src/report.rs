//! Tells authors what became of their objects: a condition in the status and, when something cannot be honoured, an
//! Event, both naming the field.
//!
//! What should be said is derived; it is written only where the object does not say so already.

mod gateway;
mod service_entry;
mod waypoint;
mod write;

use std::sync::Arc;

use kinds::status::{IstioCondition, IstioStatus};
use kinds::table::{self, Kind};
use kinds::{AuthorizationPolicy, Finding, PeerAuthentication, Problem, Severity, annotations};
use serde_json::Value;
use types::NamespacedName;

use crate::checked::Checked;
use crate::objects::{Named, Objects};
use crate::translate::Options;

pub(crate) use write::run;

/// Whether node proxies enforce the policy, or know of the hosts and endpoints.
const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// The reason of a condition about something valid that has no effect.
const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
/// The reason of a condition about something that is wrong.
const PARTIALLY_INVALID: &str = "PartiallyInvalid";
/// Whether a waypoint enforces the policy.
const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";

/// An object with a condition that has to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) kind: &'static Kind,
    pub(crate) key: NamespacedName,
    pub(crate) uid: Arc<str>,
    /// The version of the object that the report was made from; each is reported on once.
    pub(crate) resource_version: Arc<str>,
    pub(crate) generation: Option<i64>,
    /// The conditions that the object has.
    pub(crate) present: Vec<IstioCondition>,
    /// The condition's type.
    pub(crate) condition: &'static str,
    /// What it should say; `None` takes it away.
    pub(crate) verdict: Option<Verdict>,
    /// The addresses that the status should have, where they are other than those it has.
    pub(crate) addresses: Option<Value>,
}

/// What became of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the object is in force as far as node proxies can see.
    pub(crate) is_accepted: bool,
    /// One word.
    pub(crate) reason: &'static str,
    /// What an author has to know.
    pub(crate) message: String,
    /// Whether something was not honoured, which is worth an Event.
    pub(crate) is_complaint: bool,
}

/// Every object whose status does not say what it should.
pub(crate) fn derive(objects: &Objects, options: &Options) -> Vec<Report> {
    let subject = Subject::of(&format!("{}/v1", kinds::security::GROUP), "AuthorizationPolicy");
    let authorization = objects.authorization_policies.iter().map(move |policy| {
        let (condition, verdict) = authorization_verdict(policy, options);
        subject.report(policy.as_ref(), present(policy.object.status.as_ref()), condition, Some(verdict))
    });
    let subject = Subject::of(&format!("{}/v1", kinds::security::GROUP), "PeerAuthentication");
    let authentication = objects.peer_authentications.iter().map(move |policy| {
        let verdict = authentication_verdict(policy, options);
        subject.report(policy.as_ref(), present(policy.object.status.as_ref()), ZTUNNEL_ACCEPTED, Some(verdict))
    });
    let reports = authorization
        .chain(authentication)
        .chain(waypoint::derive(objects))
        .chain(service_entry::derive(objects, options))
        .chain(gateway::derive(objects, options));
    reports.filter(|report| !report.is_said()).collect()
}

impl Report {
    /// Whether the object says already what it should.
    fn is_said(&self) -> bool {
        if self.addresses.is_some() {
            return false;
        }
        let mut present = self.present.iter().filter(|condition| condition.kind == self.condition);
        let Some(verdict) = &self.verdict else { return present.next().is_none() };
        present.any(|condition| {
            condition.status == verdict.status()
                && condition.reason == verdict.reason
                && condition.message == verdict.message
                && condition.observed_generation == self.generation
        })
    }
}

impl Verdict {
    fn status(&self) -> &'static str {
        if self.is_accepted { "True" } else { "False" }
    }

    fn accepted() -> Self {
        let message = "attached to ztunnel".to_owned();
        Self { is_accepted: true, reason: "Accepted", message, is_complaint: false }
    }
}

/// A kind that is reported on.
#[derive(Clone, Copy)]
struct Subject(&'static Kind);

impl Subject {
    fn of(api_version: &str, kind: &str) -> Self {
        Self(table::find(api_version, kind).expect("kinds that are reported on are in the table"))
    }

    fn report(
        self,
        object: &impl Named,
        present: Vec<IstioCondition>,
        condition: &'static str,
        verdict: Option<Verdict>,
    ) -> Report {
        let metadata = object.metadata();
        let text = |part: &Option<String>| Arc::<str>::from(part.as_deref().unwrap_or_default());
        Report {
            kind: self.0,
            key: object.key(),
            uid: text(&metadata.uid),
            resource_version: text(&metadata.resource_version),
            generation: metadata.generation,
            present,
            condition,
            verdict,
            addresses: None,
        }
    }
}

fn present(status: Option<&IstioStatus>) -> Vec<IstioCondition> {
    status.map(|status| status.conditions.clone()).unwrap_or_default()
}

fn authorization_verdict(policy: &Checked<AuthorizationPolicy>, options: &Options) -> (&'static str, Verdict) {
    let spec = &policy.object.spec;
    if spec.is_for_waypoints() {
        let targets: Vec<String> =
            spec.target_ref.iter().chain(&spec.target_refs).map(|to| format!("{} {}", to.kind, to.name)).collect();
        let message = format!(
            "spec.targetRefs: {} is not bound to a waypoint; until it is, the policy is not enforced",
            targets.join(", ")
        );
        let message = [message].into_iter().chain(messages(&policy.findings)).collect::<Vec<_>>().join("; ");
        return (WAYPOINT_ACCEPTED, complaint(false, "AncestorNotBound", message));
    }
    if policy.annotation(annotations::DRY_RUN) == Some("true") && !options.dry_run_policies {
        let text = format!(
            "metadata.annotations[{}]: dry-run policies are not sent to ztunnel (AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY)",
            annotations::DRY_RUN
        );
        return (ZTUNNEL_ACCEPTED, complaint(false, UNSUPPORTED_VALUE, text));
    }
    let is_unknown_action = policy.findings.iter().any(|finding| finding.path == "spec.action");
    (ZTUNNEL_ACCEPTED, verdict(&policy.findings, !is_unknown_action))
}

fn authentication_verdict(policy: &Checked<PeerAuthentication>, options: &Options) -> Verdict {
    if policy.object.spec.selected().is_some() && policy.namespace() == options.root_namespace {
        let text = "spec.selector: a PeerAuthentication of the root namespace applies to the whole mesh and must not \
                    select; it is not in force";
        return complaint(false, UNSUPPORTED_VALUE, text.to_owned());
    }
    verdict(&policy.findings, true)
}

/// Parts that layer 4 cannot see leave the policy accepted, as its users expect; mistakes do not.
fn verdict(findings: &[Finding], is_sent: bool) -> Verdict {
    let Some(worst) = findings.iter().map(|finding| finding.severity).max() else { return Verdict::accepted() };
    let text = messages(findings).collect::<Vec<_>>().join("; ");
    match worst {
        Severity::Warning => Verdict { message: text, ..Verdict::accepted() },
        Severity::NotHonoured => complaint(is_sent, UNSUPPORTED_VALUE, text),
        Severity::Refused => {
            let until = "until this is corrected, the policy is enforced more restrictively than written";
            complaint(false, PARTIALLY_INVALID, format!("{text}; {until}"))
        }
    }
}

fn complaint(is_accepted: bool, reason: &'static str, message: String) -> Verdict {
    Verdict { is_accepted, reason, message, is_complaint: true }
}

/// Texts of findings; for what Istio says too, its wording comes first, without the field in front.
fn messages(findings: &[Finding]) -> impl Iterator<Item = String> {
    findings.iter().map(|finding| match finding.problem {
        Problem::Unsupported => format!("{} ({})", finding.found, finding.path),
        _ => finding.message(),
    })
}

#[cfg(test)]
mod tests;
