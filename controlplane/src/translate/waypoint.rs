//! Which waypoint an object has: references by label to Gateways that are ready and willing.
//!
//! A reference to a waypoint that is missing, has no address yet or does not take routes from there is as good as none;
//! it does not fall back to that of the namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kinds::{annotations, gateway, labels};
use kube::core::{DynamicObject, SelectorExt};
use proto::istio::workload::application_tunnel::Protocol;
use proto::istio::workload::gateway_address::Destination;
use proto::istio::workload::{ApplicationTunnel, GatewayAddress, NamespacedHostname, NetworkAddress, WeightedWaypoint};
use serde_json::Value;
use types::NamespacedName;

use super::service::octets;
use crate::objects::{Named, Objects};

/// Where every waypoint takes HBONE.
const HBONE_PORT: u32 = 15008;

/// Waypoints by reference.
pub(crate) struct Waypoints<'a> {
    objects: &'a Objects,
    network: String,
}

/// What a waypoint is asked to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Connections to a Service or ServiceEntry.
    Service,
    /// Connections to a workload's own addresses.
    Workload,
}

/// A reference that leads to a waypoint.
pub(crate) struct Bound {
    pub(crate) waypoint: NamespacedName,
    address: GatewayAddress,
}

/// Why a reference leads to no waypoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unbound {
    #[error("waypoint \"{0}\" does not exist")]
    Missing(NamespacedName),
    #[error("waypoint \"{0}\" is not ready: it has no address yet")]
    NotReady(NamespacedName),
    #[error("we are not permitted to attach to waypoint \"{0}\" (missing allowedRoutes?)")]
    Denied(NamespacedName),
    #[error("attempting to bind to traffic type \"{traffic}\" which the waypoint \"{waypoint}\" does not support")]
    OtherTraffic { waypoint: NamespacedName, traffic: &'static str },
}

impl Unbound {
    /// The reason that Istio gives for it in conditions.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) | Self::NotReady(_) => "WaypointIsNotReady",
            Self::Denied(_) => "AttachmentDenied",
            Self::OtherTraffic { .. } => "UnsupportedTrafficType",
        }
    }
}

impl<'a> Waypoints<'a> {
    pub(crate) fn new(objects: &'a Objects, network: String) -> Self {
        Self { objects, network }
    }

    /// What an object's label, or its namespace's, leads to; `None` without a reference.
    ///
    /// The object's own label goes before that of its namespace, even if it leads nowhere.
    pub(crate) fn reference(&self, object: &impl Named, purpose: Purpose) -> Option<Result<Bound, Unbound>> {
        let generated = object.label(labels::GATEWAY_MANAGED);
        if matches!(generated, Some("istio.io-mesh-controller" | "istio.io-eastwest-controller")) {
            return None;
        }
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
        (name != labels::MODE_NONE).then(|| self.bind(NamespacedName::new(place, name), from, purpose))
    }

    /// The waypoint that connections to a Service or ServiceEntry go through.
    pub(super) fn of_service(&self, service: &impl Named) -> Option<GatewayAddress> {
        Some(self.reference(service, Purpose::Service)?.ok()?.address)
    }

    /// The waypoint that connections to a workload's own addresses go through.
    pub(super) fn of_workload(&self, workload: &impl Named) -> Option<GatewayAddress> {
        Some(self.reference(workload, Purpose::Workload)?.ok()?.address)
    }

    /// Both of a service's waypoints with their shares, if it has a canary that works.
    pub(super) fn weighted(&self, service: &impl Named) -> Vec<WeightedWaypoint> {
        self.canary(service).unwrap_or_default()
    }

    /// A canary stands beside the reference: on the object, or on the namespace for objects that name nothing.
    fn canary(&self, service: &impl Named) -> Option<Vec<WeightedWaypoint>> {
        let from = service.namespace();
        let own = of_canary(service);
        let inherits = service.label(labels::USE_WAYPOINT).is_none();
        let inherited = || of_canary(&**self.objects.namespaces.get("", from).filter(|_| inherits)?);
        let (place, name, weight) = own.or_else(inherited)?;
        let primary = self.of_service(service)?;
        let canary = self.bind(NamespacedName::new(place.unwrap_or(from), name), from, Purpose::Service).ok()?.address;
        let share = |destination, weight| WeightedWaypoint { destination: Some(destination), weight };
        Some(vec![share(primary, 100 - weight), share(canary, weight)])
    }

    /// Whether gateways at the edge are to send a service's traffic through its waypoint.
    pub(crate) fn takes_ingress(&self, service: &impl Named) -> bool {
        let of_namespace = || self.objects.namespaces.get("", service.namespace())?.label(labels::INGRESS_USE_WAYPOINT);
        service.label(labels::INGRESS_USE_WAYPOINT).or_else(of_namespace) == Some("true")
    }

    /// The Gateway that a pod belongs to.
    pub(super) fn instance(&self, pod: &Pod) -> Option<&'a DynamicObject> {
        let name = pod.label(labels::GATEWAY_NAME)?;
        self.objects.gateways.get(pod.namespace(), name).map(|gateway| &**gateway)
    }

    /// How the pods of a Gateway that is captured itself want to be told about connections.
    pub(super) fn inbound_binding(&self, gateway: &DynamicObject) -> Option<ApplicationTunnel> {
        let of_class = || self.class(gateway)?.annotation(annotations::WAYPOINT_INBOUND_BINDING);
        let binding = gateway.annotation(annotations::WAYPOINT_INBOUND_BINDING).or_else(of_class)?;
        let (protocol, port) = binding.split_once('/').unwrap_or((binding, "0"));
        let protocol = match protocol {
            "PROXY" => Protocol::Proxy,
            "NONE" => Protocol::None,
            _ => return None,
        };
        Some(ApplicationTunnel { protocol: protocol.into(), port: u32::from(port.parse::<u16>().ok()?) })
    }

    /// The address of a waypoint that is ready, serves the purpose and takes routes from the namespace `from`.
    fn bind(&self, waypoint: NamespacedName, from: &str, purpose: Purpose) -> Result<Bound, Unbound> {
        let Some(gateway) = self.objects.gateways.get(&waypoint.namespace, &waypoint.name) else {
            return Err(Unbound::Missing(waypoint));
        };
        let Some(address) = self.address(gateway) else { return Err(Unbound::NotReady(waypoint)) };
        if !self.serves(gateway, purpose) {
            let traffic = match purpose {
                Purpose::Service => "service",
                Purpose::Workload => "workload",
            };
            return Err(Unbound::OtherTraffic { waypoint, traffic });
        }
        if !self.admits(gateway, from) {
            return Err(Unbound::Denied(waypoint));
        }
        Ok(Bound { waypoint, address })
    }

    fn class(&self, gateway: &DynamicObject) -> Option<&'a DynamicObject> {
        self.objects.gateway_classes.get("", gateway::class(gateway)?).map(|class| &**class)
    }

    fn serves(&self, gateway: &DynamicObject, purpose: Purpose) -> bool {
        let of_class = || self.class(gateway)?.label(labels::WAYPOINT_FOR);
        let serves = gateway.label(labels::WAYPOINT_FOR).or_else(of_class).unwrap_or("service");
        match purpose {
            Purpose::Service => matches!(serves, "service" | "all"),
            Purpose::Workload => matches!(serves, "workload" | "all"),
        }
    }

    /// What the listener for HBONE says about other namespaces; its own alone when it says nothing.
    fn admits(&self, gateway: &DynamicObject, from: &str) -> bool {
        let is_hbone =
            |listener: &&gateway::Listener<'_>| listener.protocol == "HBONE" && u32::from(listener.port) == HBONE_PORT;
        let listeners = gateway::listeners(gateway);
        let listener = listeners.iter().find(is_hbone);
        let wishes = listener.and_then(|listener| listener.fields.pointer("/allowedRoutes/namespaces"));
        match wishes.and_then(|wishes| wishes.get("from")?.as_str()).unwrap_or("Same") {
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
        let addresses = gateway::status_addresses(gateway);
        let named = addresses.iter().find(|address| address.is_hostname).map(|address| {
            let (namespace, hostname) = (gateway.namespace().to_owned(), address.value.to_owned());
            Destination::Hostname(NamespacedHostname { namespace, hostname })
        });
        let numbered = || {
            let ip = addresses.iter().filter(|address| !address.is_hostname).find_map(|one| one.value.parse().ok())?;
            let network = gateway.label(labels::TOPOLOGY_NETWORK).unwrap_or(&self.network).to_owned();
            Some(Destination::Address(NetworkAddress { network, address: octets(ip), length: None }))
        };
        let destination = Some(named.or_else(numbered)?);
        Some(GatewayAddress { destination, hbone_mtls_port: HBONE_PORT })
    }
}

/// Namespace if given, name and share of the canary that an object names.
fn of_canary(object: &impl Named) -> Option<(Option<&str>, &str, u32)> {
    let weight = object.annotation(annotations::USE_WAYPOINT_CANARY_WEIGHT)?;
    let weight = weight.parse().ok().filter(|weight| *weight <= 100)?;
    let place = object.label(labels::USE_WAYPOINT_CANARY_NAMESPACE);
    Some((place, object.label(labels::USE_WAYPOINT_CANARY)?, weight))
}
