//! Whether the waypoint that a Service names takes its connections: condition `istio.io/WaypointBound`.

use k8s_openapi::api::core::v1::Service;
use kinds::labels;
use kinds::status::IstioCondition;

use super::{Report, Subject, Verdict, complaint};
use crate::objects::{Named, Objects};
use crate::translate::{Purpose, Waypoints};

/// The condition.
const WAYPOINT_BOUND: &str = "istio.io/WaypointBound";

pub(super) fn derive(objects: &Objects) -> impl Iterator<Item = Report> {
    // The network is of no interest here.
    let waypoints = Waypoints::new(objects, String::new());
    let subject = Subject::of("v1", "Service");
    objects.services.iter().map(move |service| bound(subject, &**service, present(service), &waypoints))
}

/// What is to be said of one object; nothing, if it has no reference to a waypoint.
pub(super) fn bound(
    subject: Subject,
    object: &impl Named,
    present: Vec<IstioCondition>,
    waypoints: &Waypoints<'_>,
) -> Report {
    let verdict = waypoints.reference(object, Purpose::Service).map(|found| match found {
        Ok(bound) => {
            let ingress = if waypoints.takes_ingress(object) {
                "Ingress traffic will traverse the waypoint".to_owned()
            } else {
                let label = labels::INGRESS_USE_WAYPOINT;
                format!("Ingress traffic is not using the waypoint, set the {label} label to true if desired.")
            };
            let message = format!("Successfully attached to waypoint {}. {ingress}", bound.waypoint);
            Verdict { is_accepted: true, reason: "WaypointAccepted", message, is_complaint: false }
        }
        Err(unbound) => complaint(false, unbound.reason(), unbound.to_string()),
    });
    subject.report(object, present, WAYPOINT_BOUND, verdict)
}

fn present(service: &Service) -> Vec<IstioCondition> {
    let conditions = service.status.as_ref().and_then(|status| status.conditions.as_ref());
    let convert = |condition: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| IstioCondition {
        kind: condition.type_.clone(),
        status: condition.status.clone(),
        reason: condition.reason.clone(),
        message: condition.message.clone(),
        last_transition_time: Some(condition.last_transition_time.clone()),
        last_probe_time: None,
        observed_generation: condition.observed_generation,
    };
    conditions.into_iter().flatten().map(convert).collect()
}
