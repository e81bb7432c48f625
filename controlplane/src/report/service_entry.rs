//! What became of ServiceEntries and WorkloadEntries: fields without effect, hosts that others define already.

use kinds::networking::Resolution;
use kinds::{Finding, ServiceEntry, Severity};

use super::waypoint::bound;
use super::{
    PARTIALLY_INVALID, Report, Subject, UNSUPPORTED_VALUE, Verdict, ZTUNNEL_ACCEPTED, complaint, messages, present,
};
use crate::checked::Checked;
use crate::objects::Objects;
use crate::translate::{Hosts, Options, Purpose, Waypoints};

pub(super) fn derive<'a>(objects: &'a Objects, options: &'a Options) -> impl Iterator<Item = Report> + 'a {
    let waypoints = Waypoints::new(objects, String::new());
    let hosts = Hosts::new(objects, options);
    let subject = Subject::of("networking.istio.io/v1", "ServiceEntry");
    let entries = objects.service_entries.iter().flat_map(move |entry| {
        let conditions = || entry.object.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
        let verdict = entry_verdict(entry, &hosts, &waypoints);
        let accepted = subject.report(&**entry, conditions(), ZTUNNEL_ACCEPTED, Some(verdict));
        [accepted, bound(subject, &**entry, conditions(), &waypoints)]
    });
    let subject = Subject::of("networking.istio.io/v1", "WorkloadEntry");
    let workloads = objects.workload_entries.iter().map(move |entry| {
        let verdict = verdict(&entry.findings, Vec::new());
        subject.report(&**entry, present(entry.object.status.as_ref()), ZTUNNEL_ACCEPTED, Some(verdict))
    });
    entries.chain(workloads)
}

fn entry_verdict(entry: &Checked<ServiceEntry>, hosts: &Hosts<'_>, waypoints: &Waypoints<'_>) -> Verdict {
    let mut further = Vec::new();
    for (index, host) in entry.object.spec.hosts.iter().enumerate() {
        if let Some(rival) = hosts.rival(entry, host) {
            further.push(format!("spec.hosts[{index}]: {rival} defines {host} in this namespace already"));
        }
    }
    let has_waypoint = || matches!(waypoints.reference(entry, Purpose::Service), Some(Ok(_)));
    if entry.object.spec.resolution() == Resolution::DynamicDns && !has_waypoint() {
        let text =
            "spec.resolution: names below a wildcard are resolved by a waypoint (DYNAMIC_DNS), and there is none";
        further.push(text.to_owned());
    }
    verdict(&entry.findings, further)
}

/// What is said about an object with findings and with complaints that depend on other objects.
fn verdict(findings: &[Finding], further: Vec<String>) -> Verdict {
    let worst = findings.iter().map(|finding| finding.severity).max();
    let text = messages(findings).chain(further.iter().cloned()).collect::<Vec<_>>().join("; ");
    match worst {
        Some(Severity::Refused) => complaint(false, PARTIALLY_INVALID, text),
        Some(Severity::NotHonoured) => complaint(true, UNSUPPORTED_VALUE, text),
        _ if !further.is_empty() => complaint(true, UNSUPPORTED_VALUE, text),
        Some(Severity::Warning) => Verdict { message: text, ..Verdict::accepted() },
        None => Verdict::accepted(),
    }
}
