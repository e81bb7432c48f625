//! Whether a Gateway is a waypoint that can be used: conditions `Accepted` and `Programmed`, and its addresses.
//!
//! The control plane deploys no waypoints yet. It finds the Services that somebody made for them, as Istio's controller
//! does, by the label that names the Gateway.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kinds::gateway::{self, GROUP, GatewayAddress, WAYPOINT_CLASSES};
use kinds::labels::GATEWAY_NAME;
use kinds::status::IstioCondition;
use kube::core::DynamicObject;
use serde_json::{Value, json};

use super::{Report, Subject, Verdict};
use crate::objects::{Named, Objects};
use crate::translate::Options;

/// Whether the Gateway is one of ours.
const ACCEPTED: &str = "Accepted";

/// Whether it can be used.
const PROGRAMMED: &str = "Programmed";

/// Where every waypoint takes HBONE.
const HBONE_PORT: i32 = 15008;

pub(super) fn derive<'a>(objects: &'a Objects, options: &'a Options) -> impl Iterator<Item = Report> + 'a {
    let subject = Subject::of(&format!("{GROUP}/v1"), "Gateway");
    let is_waypoint =
        |gateway: &DynamicObject| gateway::class(gateway).is_some_and(|class| WAYPOINT_CLASSES.contains(&class));
    let waypoints = objects.gateways.iter().filter(move |gateway| is_waypoint(gateway));
    waypoints.flat_map(move |gateway| status(subject, gateway, objects, options))
}

/// Nothing for a Gateway without a Service here that has addresses: another controller gave it those.
fn status(subject: Subject, gateway: &DynamicObject, objects: &Objects, options: &Options) -> Vec<Report> {
    let services: Vec<&Service> =
        objects.services.iter().map(|service| &**service).filter(|service| serves(service, gateway)).collect();
    if services.is_empty() && !gateway::status_addresses(gateway).is_empty() {
        return Vec::new();
    }
    let report = |condition, verdict| subject.report(gateway, present(gateway), condition, Some(verdict));
    let accepted = Verdict { message: "Resource accepted".to_owned(), ..Verdict::accepted() };
    let mut programmed = report(PROGRAMMED, verdict(gateway, &services, options));
    programmed.addresses = addresses(gateway, &services, options);
    vec![report(ACCEPTED, accepted), programmed]
}

/// Whether a Service leads to the pods of a Gateway.
fn serves(service: &Service, gateway: &DynamicObject) -> bool {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_ref());
    service.namespace() == gateway.namespace()
        && service.label(GATEWAY_NAME) == Some(gateway.name())
        && ports.into_iter().flatten().any(|port| port.port == HBONE_PORT)
}

fn verdict(gateway: &DynamicObject, services: &[&Service], options: &Options) -> Verdict {
    if services.is_empty() {
        let message = format!(
            "no Service in namespace {} has port {HBONE_PORT} and the label {GATEWAY_NAME}: {}",
            gateway.namespace(),
            gateway.name()
        );
        return Verdict { is_accepted: false, reason: "Pending", message, is_complaint: false };
    }
    let assigned: BTreeSet<String> =
        services.iter().map(|service| format!("{}:{HBONE_PORT}", hostname(service, options))).collect();
    let assigned = assigned.into_iter().collect::<Vec<_>>().join(", ");
    let message = format!("Resource programmed, assigned to service(s) {assigned}");
    Verdict { is_accepted: true, reason: PROGRAMMED, message, is_complaint: false }
}

/// Names and addresses of the Services, if the Gateway does not say them already.
fn addresses(gateway: &DynamicObject, services: &[&Service], options: &Options) -> Option<Value> {
    let names = services.iter().map(|service| (true, hostname(service, options)));
    let numbers = services.iter().flat_map(|service| {
        let spec = service.spec.as_ref();
        let ips = spec.and_then(|spec| spec.cluster_ips.clone().or_else(|| Some(vec![spec.cluster_ip.clone()?])));
        // A headless service says `None`, which is no address.
        let ips = ips.into_iter().flatten().filter(|text| text.parse::<std::net::IpAddr>().is_ok());
        ips.map(|ip| (false, ip))
    });
    let wanted: BTreeSet<(bool, String)> = names.chain(numbers).collect();
    let found: BTreeSet<(bool, String)> = gateway::status_addresses(gateway)
        .into_iter()
        .map(|GatewayAddress { is_hostname, value }| (is_hostname, value.to_owned()))
        .collect();
    let write = |(is_hostname, value): &(bool, String)| json!({"type": if *is_hostname { "Hostname" } else { "IPAddress" }, "value": value});
    (wanted != found).then(|| wanted.iter().map(write).collect())
}

/// `<name>.<namespace>.svc.<cluster domain>`
fn hostname(service: &Service, options: &Options) -> String {
    format!("{}.{}.svc.{}", service.name(), service.namespace(), options.cluster_domain)
}

fn present(gateway: &DynamicObject) -> Vec<IstioCondition> {
    let conditions = gateway.data.pointer("/status/conditions").and_then(Value::as_array);
    conditions.into_iter().flatten().filter_map(|one| serde_json::from_value(one.clone()).ok()).collect()
}

#[cfg(test)]
mod tests;
