//! EndpointSlices: where the pods of each Service are, and whether they are ready.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{controlled_by, first_failure, is_finished, is_ready};
use crate::api::{Client, DeleteOptions, Selection, Status, digest};
use crate::families::Family;

const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Slices of others, such as those that a user wrote for a Service without selector, are left alone.
const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io");

pub(super) fn reconcile(client: &Client) -> Result<(), Status> {
    let services: Vec<Service> = client.list(&Selection::default())?;
    let pods: Vec<Pod> = client.list(&Selection::default())?;
    let own = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
    let slices: Vec<EndpointSlice> = client.list(&Selection { labels: own, ..Selection::default() })?;
    let wanted: BTreeMap<_, _> = services
        .iter()
        .filter(|service| service.metadata.deletion_timestamp.is_none())
        .flat_map(|service| slices_of(service, &pods))
        .map(|slice| (key(&slice.metadata), slice))
        .collect();
    let existing: BTreeMap<_, _> = slices.iter().map(|slice| (key(&slice.metadata), slice)).collect();
    let surplus = existing.iter().filter(|(key, _)| !wanted.contains_key(*key));
    let removals = surplus
        .map(|((namespace, name), _)| client.delete::<EndpointSlice>(Some(namespace), name, &DeleteOptions::default()));
    let writes = wanted.iter().map(|(key, slice)| write(client, slice, existing.get(key).copied()));
    first_failure(removals.chain(writes))
}

fn key(metadata: &ObjectMeta) -> (String, String) {
    (metadata.namespace.clone().unwrap_or_default(), metadata.name.clone().unwrap_or_default())
}

fn write(client: &Client, wanted: &EndpointSlice, existing: Option<&EndpointSlice>) -> Result<(), Status> {
    let Some(existing) = existing else { return client.create(wanted).map(drop) };
    let is_same = existing.endpoints == wanted.endpoints
        && existing.ports == wanted.ports
        && existing.metadata.labels == wanted.metadata.labels;
    if is_same {
        return Ok(());
    }
    let mut metadata = existing.metadata.clone();
    metadata.labels = wanted.metadata.labels.clone();
    client.replace(&EndpointSlice { metadata, ..wanted.clone() }).map(drop)
}

/// One slice for each family of the Service and each set of port numbers: a named port may mean another number in each
/// pod.
fn slices_of(service: &Service, pods: &[Pod]) -> Vec<EndpointSlice> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(selector) = spec.selector.as_ref().filter(|selector| !selector.is_empty()) else { return Vec::new() };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let selected: Vec<&Pod> = pods.iter().filter(|pod| is_selected(pod, service, selector)).collect();
    let families = spec.ip_families.iter().flatten().filter_map(|name| Family::named(name));
    families.flat_map(|family| slices_of_family(service, spec, &selected, family)).collect()
}

fn slices_of_family(service: &Service, spec: &ServiceSpec, pods: &[&Pod], family: Family) -> Vec<EndpointSlice> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods {
        let Some(endpoint) = endpoint(pod, spec, family) else { continue };
        let ports: Vec<_> = spec.ports.iter().flatten().filter_map(|port| resolve(port, pod)).collect();
        let numbers = ports.iter().map(|port| format!("{:?}={:?};", port.name, port.port)).collect();
        groups.entry(numbers).or_insert_with(|| (ports, Vec::new())).1.push(endpoint);
    }
    if groups.is_empty() {
        // An empty slice says that the Service is known and has nobody.
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    groups.into_iter().map(|(numbers, group)| slice(service, family, &numbers, group)).collect()
}

fn slice(
    service: &Service,
    family: Family,
    numbers: &str,
    (ports, endpoints): (Vec<EndpointPort>, Vec<Endpoint>),
) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let uid = service.metadata.uid.as_deref().unwrap_or_default();
    let mut suffix = digest(&format!("{uid}/{family}/{numbers}"));
    suffix.truncate(5);
    let mut labels =
        BTreeMap::from([(SERVICE_NAME.to_owned(), name.clone()), (MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned())]);
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert("service.kubernetes.io/headless".into(), String::new());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{suffix}")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(controlled_by::<Service>(&service.metadata)),
            ..ObjectMeta::default()
        },
        address_type: family.name().into(),
        endpoints: Some(endpoints),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn is_selected(pod: &Pod, service: &Service, selector: &BTreeMap<String, String>) -> bool {
    let labels = pod.metadata.labels.as_ref();
    pod.metadata.namespace == service.metadata.namespace
        && !is_finished(pod)
        && selector.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn endpoint(pod: &Pod, spec: &ServiceSpec, family: Family) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    let mut addresses = status.pod_ips.iter().flatten().map(|ip| &ip.ip).chain(&status.pod_ip);
    let address = addresses.find(|ip| ip.parse().is_ok_and(|ip| Family::of(ip) == family))?.clone();
    let is_serving = is_ready(pod);
    let is_ending = pod.metadata.deletion_timestamp.is_some();
    let is_published = spec.publish_not_ready_addresses == Some(true);
    let pod_spec = pod.spec.as_ref();
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(is_published || (is_serving && !is_ending)),
            serving: Some(is_serving),
            terminating: Some(is_ending),
        }),
        hostname: pod_spec.and_then(|spec| spec.hostname.clone()),
        node_name: pod_spec.and_then(|spec| spec.node_name.clone()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            namespace: pod.metadata.namespace.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    })
}

/// The port of a pod behind a port of a Service; nothing when the pod has no port of that name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            let named = ports
                .find(|port| port.name.as_ref() == Some(name) && port.protocol.as_deref().unwrap_or("TCP") == protocol);
            named?.container_port
        }
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol.into()),
        app_protocol: port.app_protocol.clone(),
    })
}
