//! Which waypoint a Service or pod has: references by label to Gateways that are ready and willing.
//!
//! A reference to a waypoint that is missing, has no address yet or does not take routes from there is as good as none;
//! it does not fall back to that of the namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kinds::{annotations, labels};
use kube::core::{DynamicObject, SelectorExt};
use proto::istio::workload::application_tunnel::Protocol;
use proto::istio::workload::gateway_address::Destination;
use proto::istio::workload::{ApplicationTunnel, GatewayAddress, NamespacedHostname, NetworkAddress, WeightedWaypoint};
use serde_json::Value;

use super::service::octets;
use crate::objects::{Named, Objects};

/// Where every waypoint takes HBONE.
const HBONE_PORT: u32 = 15008;

/// Waypoints by reference.
pub(super) struct Waypoints<'a> {
    objects: &'a Objects,
    network: String,
}

/// What a waypoint is asked to serve.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Service,
    Workload,
}

impl<'a> Waypoints<'a> {
    pub(super) fn new(objects: &'a Objects, network: String) -> Self {
        Self { objects, network }
    }

    /// The waypoint that connections to a Service go through.
    pub(super) fn of_service(&self, service: &Service) -> Option<GatewayAddress> {
        let generated = service.label(labels::GATEWAY_MANAGED);
        if matches!(generated, Some("istio.io-mesh-controller" | "istio.io-eastwest-controller")) {
            return None;
        }
        self.find(service, Purpose::Service)
    }

    /// The waypoint that connections to a pod's own addresses go through.
    pub(super) fn of_workload(&self, pod: &Pod) -> Option<GatewayAddress> {
        self.find(pod, Purpose::Workload)
    }

    /// Both of a Service's waypoints with their shares, if it has a canary that works.
    pub(super) fn weighted(&self, service: &Service) -> Vec<WeightedWaypoint> {
        let weight = service.annotation(annotations::USE_WAYPOINT_CANARY_WEIGHT);
        let weight = weight.and_then(|text| text.parse::<u32>().ok()).filter(|weight| *weight <= 100);
        let both = || {
            let name = service.label(labels::USE_WAYPOINT_CANARY)?;
            let namespace = service.label(labels::USE_WAYPOINT_CANARY_NAMESPACE).unwrap_or(service.namespace());
            let canary = self.ready(namespace, name, service.namespace(), Purpose::Service)?;
            Some((self.of_service(service)?, canary))
        };
        let (Some(weight), Some((primary, canary))) = (weight, both()) else { return Vec::new() };
        let share = |destination, weight| WeightedWaypoint { destination: Some(destination), weight };
        vec![share(primary, 100 - weight), share(canary, weight)]
    }

    /// The Gateway that a pod belongs to.
    pub(super) fn instance(&self, pod: &Pod) -> Option<&'a DynamicObject> {
        let name = pod.label(labels::GATEWAY_NAME)?;
        self.objects.gateways.get(pod.namespace(), name).map(|gateway| &**gateway)
    }

    /// The object's own label goes before that of its namespace, even if it leads nowhere.
    fn find(&self, object: &impl Named, purpose: Purpose) -> Option<GatewayAddress> {
        let from = object.namespace();
        let of_namespace = || {
            let namespace = self.objects.namespaces.get("", from)?;
            let place = namespace.label(labels::USE_WAYPOINT_NAMESPACE).unwrap_or(from);
            Some((place, namespace.label(labels::USE_WAYPOINT)?))
        };
        let (place, name) = match object.label(labels::USE_WAYPOINT) {
            Some(name) => (object.label(labels::USE_WAYPOINT_NAMESPACE).unwrap_or(from), name),
            None => of_namespace()?,
        };
        if name == labels::MODE_NONE { None } else { self.ready(place, name, from, purpose) }
    }

    /// The address of a waypoint that is ready and takes routes from the namespace `from`.
    fn ready(&self, namespace: &str, name: &str, from: &str, purpose: Purpose) -> Option<GatewayAddress> {
        let gateway = self.objects.gateways.get(namespace, name)?;
        let is_willing = self.serves(gateway, purpose) && self.admits(gateway, from);
        if is_willing { self.address(gateway) } else { None }
    }

    fn serves(&self, gateway: &DynamicObject, purpose: Purpose) -> bool {
        let class = text(&gateway.data, "/spec/gatewayClassName");
        let of_class = || self.objects.gateway_classes.get("", class?)?.label(labels::WAYPOINT_FOR);
        let serves = gateway.label(labels::WAYPOINT_FOR).or_else(of_class).unwrap_or("service");
        match purpose {
            Purpose::Service => matches!(serves, "service" | "all"),
            Purpose::Workload => matches!(serves, "workload" | "all"),
        }
    }

    /// What the listener for HBONE says about other namespaces; its own alone when it says nothing.
    fn admits(&self, gateway: &DynamicObject, from: &str) -> bool {
        let listeners = gateway.data.pointer("/spec/listeners").and_then(Value::as_array);
        let is_hbone = |listener: &&Value| {
            text(listener, "/protocol") == Some("HBONE")
                && listener.get("port").and_then(Value::as_u64) == Some(u64::from(HBONE_PORT))
        };
        let listener = listeners.into_iter().flatten().find(is_hbone);
        let wishes = listener.and_then(|listener| listener.pointer("/allowedRoutes/namespaces"));
        match wishes.and_then(|wishes| text(wishes, "/from")).unwrap_or("Same") {
            "All" => true,
            "Same" => gateway.namespace() == from,
            "Selector" => wishes.is_some_and(|wishes| self.selects(wishes, from)),
            _ => false,
        }
    }

    fn selects(&self, wishes: &Value, from: &str) -> bool {
        let selector = wishes.get("selector").cloned().map(serde_json::from_value::<LabelSelector>);
        let Some(Ok(selector)) = selector else { return false };
        let Ok(selector) = kube::core::Selector::try_from(selector) else { return false };
        let of_namespace = self.objects.namespaces.get("", from).and_then(|found| found.metadata.labels.clone());
        let of_namespace: BTreeMap<String, String> = of_namespace.unwrap_or_default();
        selector.matches(&of_namespace)
    }

    /// A host name if the Gateway has one, so that its addresses may change; `None` until it has any address.
    fn address(&self, gateway: &DynamicObject) -> Option<GatewayAddress> {
        let addresses = gateway.data.pointer("/status/addresses").and_then(Value::as_array)?;
        let of_type = |kind: &'static str| {
            // The default of the type is an IP address.
            let is_meant = move |address: &&Value| text(address, "/type").unwrap_or("IPAddress") == kind;
            addresses.iter().filter(is_meant).filter_map(|address| text(address, "/value"))
        };
        let named = of_type("Hostname").next().map(|hostname| {
            let (namespace, hostname) = (gateway.namespace().to_owned(), hostname.to_owned());
            Destination::Hostname(NamespacedHostname { namespace, hostname })
        });
        let numbered = || {
            let ip = of_type("IPAddress").find_map(|text| text.parse().ok())?;
            let network = self.network.clone();
            Some(Destination::Address(NetworkAddress { network, address: octets(ip), length: None }))
        };
        let destination = Some(named.or_else(numbered)?);
        Some(GatewayAddress { destination, hbone_mtls_port: HBONE_PORT })
    }
}

/// How the pods of a Gateway that is captured itself want to be told about connections.
pub(super) fn inbound_binding(gateway: &DynamicObject) -> Option<ApplicationTunnel> {
    let binding = gateway.annotation(annotations::WAYPOINT_INBOUND_BINDING)?;
    let (protocol, port) = binding.split_once('/').unwrap_or((binding, "0"));
    let protocol = match protocol {
        "PROXY" => Protocol::Proxy,
        "NONE" => Protocol::None,
        _ => return None,
    };
    Some(ApplicationTunnel { protocol: protocol.into(), port: u32::from(port.parse::<u16>().ok()?) })
}

fn text<'v>(value: &'v Value, pointer: &str) -> Option<&'v str> {
    value.pointer(pointer)?.as_str()
}
