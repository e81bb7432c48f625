//! Tells authors what became of their policies: a condition in the status and, when something cannot be honoured, an
//! Event, both naming the field.
//!
//! What should be said is derived; it is written only where the object does not say so already.

mod write;

use std::sync::Arc;

use kinds::status::{IstioCondition, IstioStatus};
use kinds::{AuthorizationPolicy, Finding, PeerAuthentication, Problem, Severity, annotations};
use types::NamespacedName;

use crate::checked::Checked;
use crate::objects::{Named, Objects};
use crate::translate::Options;

pub(crate) use write::run;

/// Whether node proxies enforce the policy.
const ZTUNNEL_ACCEPTED: &str = "ZtunnelAccepted";
/// Whether a waypoint enforces the policy.
const WAYPOINT_ACCEPTED: &str = "WaypointAccepted";

/// A policy whose status has to be written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Report {
    pub(crate) kind: &'static str,
    pub(crate) key: NamespacedName,
    pub(crate) uid: Arc<str>,
    /// The version of the object that the report was made from; each is reported on once.
    pub(crate) resource_version: Arc<str>,
    pub(crate) generation: Option<i64>,
    /// The conditions that the object has.
    pub(crate) present: Vec<IstioCondition>,
    pub(crate) verdict: Verdict,
}

/// What became of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The condition's type.
    pub(crate) condition: &'static str,
    /// Whether the policy is in force as far as node proxies can see.
    pub(crate) is_accepted: bool,
    /// One word.
    pub(crate) reason: &'static str,
    /// What an author has to know.
    pub(crate) message: String,
    /// Whether something was not honoured, which is worth an Event.
    pub(crate) is_complaint: bool,
}

/// Every policy whose status does not say what it should.
pub(crate) fn derive(objects: &Objects, options: &Options) -> Vec<Report> {
    let authorization = objects.authorization_policies.iter().map(|policy| {
        let status = policy.object.status.as_ref();
        report("AuthorizationPolicy", policy.as_ref(), status, authorization_verdict(policy, options))
    });
    let authentication = objects.peer_authentications.iter().map(|policy| {
        let status = policy.object.status.as_ref();
        report("PeerAuthentication", policy.as_ref(), status, authentication_verdict(policy, options))
    });
    authorization.chain(authentication).filter(|report| !report.is_said()).collect()
}

impl Report {
    /// Whether the object says already what it should.
    fn is_said(&self) -> bool {
        self.present.iter().any(|condition| {
            condition.kind == self.verdict.condition
                && condition.status == self.verdict.status()
                && condition.reason == self.verdict.reason
                && condition.message == self.verdict.message
                && condition.observed_generation == self.generation
        })
    }
}

impl Verdict {
    fn status(&self) -> &'static str {
        if self.is_accepted { "True" } else { "False" }
    }

    fn accepted() -> Self {
        Self {
            condition: ZTUNNEL_ACCEPTED,
            is_accepted: true,
            reason: "Accepted",
            message: "attached to ztunnel".to_owned(),
            is_complaint: false,
        }
    }
}

fn report<K: Named>(kind: &'static str, object: &K, status: Option<&IstioStatus>, verdict: Verdict) -> Report {
    let metadata = object.metadata();
    let text = |part: &Option<String>| Arc::<str>::from(part.as_deref().unwrap_or_default());
    Report {
        kind,
        key: object.key(),
        uid: text(&metadata.uid),
        resource_version: text(&metadata.resource_version),
        generation: metadata.generation,
        present: status.map(|status| status.conditions.clone()).unwrap_or_default(),
        verdict,
    }
}

fn authorization_verdict(policy: &Checked<AuthorizationPolicy>, options: &Options) -> Verdict {
    let spec = &policy.object.spec;
    if spec.is_for_waypoints() {
        let targets: Vec<String> =
            spec.target_ref.iter().chain(&spec.target_refs).map(|to| format!("{} {}", to.kind, to.name)).collect();
        let message = format!(
            "spec.targetRefs: {} is not bound to a waypoint; until it is, the policy is not enforced",
            targets.join(", ")
        );
        let message = [message].into_iter().chain(messages(&policy.findings)).collect::<Vec<_>>().join("; ");
        return Verdict {
            condition: WAYPOINT_ACCEPTED,
            is_accepted: false,
            reason: "AncestorNotBound",
            message,
            is_complaint: true,
        };
    }
    if policy.annotation(annotations::DRY_RUN) == Some("true") && !options.dry_run_policies {
        let text = format!(
            "metadata.annotations[{}]: dry-run policies are not sent to ztunnel (AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY)",
            annotations::DRY_RUN
        );
        return complaint(false, "UnsupportedValue", text);
    }
    let is_unknown_action = policy.findings.iter().any(|finding| finding.path == "spec.action");
    verdict(&policy.findings, !is_unknown_action)
}

fn authentication_verdict(policy: &Checked<PeerAuthentication>, options: &Options) -> Verdict {
    if policy.object.spec.selected().is_some() && policy.namespace() == options.root_namespace {
        let text = "spec.selector: a PeerAuthentication of the root namespace applies to the whole mesh and must not \
                    select; it is not in force";
        return complaint(false, "UnsupportedValue", text.to_owned());
    }
    verdict(&policy.findings, true)
}

/// Parts that layer 4 cannot see leave the policy accepted, as its users expect; mistakes do not.
fn verdict(findings: &[Finding], is_sent: bool) -> Verdict {
    let Some(worst) = findings.iter().map(|finding| finding.severity).max() else { return Verdict::accepted() };
    let text = messages(findings).collect::<Vec<_>>().join("; ");
    match worst {
        Severity::Warning => Verdict { message: text, ..Verdict::accepted() },
        Severity::NotHonoured => complaint(is_sent, "UnsupportedValue", text),
        Severity::Refused => {
            let until = "until this is corrected, the policy is enforced more restrictively than written";
            complaint(false, "PartiallyInvalid", format!("{text}; {until}"))
        }
    }
}

fn complaint(is_accepted: bool, reason: &'static str, message: String) -> Verdict {
    Verdict { condition: ZTUNNEL_ACCEPTED, is_accepted, reason, message, is_complaint: true }
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
