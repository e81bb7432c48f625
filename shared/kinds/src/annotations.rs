//! Annotations with a meaning for the mesh, and the values that carry it.

/// The state of a pod's redirection, written by the node agent: [`REDIRECTION_ENABLED`], [`REDIRECTION_PENDING`]
/// or absent.
pub const REDIRECTION: &str = "ambient.istio.io/redirection";
/// Rules, listener and probe set are in place: the pod speaks HBONE.
pub const REDIRECTION_ENABLED: &str = "enabled";
/// Rules are in place, the node proxy has not acknowledged the pod.
pub const REDIRECTION_PENDING: &str = "pending";

/// A pod whose redirection is being taken down: a nonce, written by the node agent in the patch that clears
/// [`REDIRECTION`].
pub const LEAVING: &str = "ambient.aquifer.dev/leaving";
/// The nonce of [`LEAVING`], repeated by the control plane once every connected proxy has acknowledged that the pod
/// no longer speaks HBONE.
pub const TOLD: &str = "ambient.aquifer.dev/told";

/// Marks a pod with an injected sidecar; such a pod is never enrolled.
pub const SIDECAR_STATUS: &str = "sidecar.istio.io/status";
/// Inbound traffic of the pod is not captured.
pub const BYPASS_INBOUND_CAPTURE: &str = "ambient.istio.io/bypass-inbound-capture";
/// Overrides whether the pod's DNS queries are captured.
pub const DNS_CAPTURE: &str = "ambient.istio.io/dns-capture";
/// Interfaces whose inbound traffic is treated as outbound.
pub const REROUTE_VIRTUAL_INTERFACES: &str = "istio.io/reroute-virtual-interfaces";

/// The share of the canary waypoint in percent, 0 to 100.
pub const USE_WAYPOINT_CANARY_WEIGHT: &str = "istio.io/use-waypoint-canary-weight";
/// How the pods of a waypoint that is captured itself take connections: `PROXY` or `NONE`, with `/<port>` at will.
pub const WAYPOINT_INBOUND_BINDING: &str = "ambient.istio.io/waypoint-inbound-binding";

/// The ServiceAccount that the pods of a Gateway run as; the Gateway's name unless given.
pub const GATEWAY_SERVICE_ACCOUNT: &str = "gateway.istio.io/service-account";

/// Where the traffic of a service prefers to go: `PreferClose`, `PreferSameZone` or `PreferSameNode`.
pub const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
/// `true` on an AuthorizationPolicy: evaluate and report, enforce nothing.
pub const DRY_RUN: &str = "istio.io/dry-run";
/// Linkerd's injection: another mesh's enrolment, reported but never acted on.
pub const LINKERD_INJECT: &str = "linkerd.io/inject";
