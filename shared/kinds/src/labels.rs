//! Labels with a meaning for the mesh, and the values that carry it.

/// Whether a pod, or the pods of a namespace, take part: [`MODE_AMBIENT`] or [`MODE_NONE`].
pub const DATAPLANE_MODE: &str = "istio.io/dataplane-mode";
/// The value of [`DATAPLANE_MODE`] that enrols.
pub const MODE_AMBIENT: &str = "ambient";
/// The value of [`DATAPLANE_MODE`] that keeps a pod out of an enrolled namespace.
pub const MODE_NONE: &str = "none";
/// The sidecar injection of a namespace: another way into a mesh, reported but never acted on.
pub const ISTIO_INJECTION: &str = "istio-injection";

/// The waypoint of a pod, service or namespace; `none` opts out.
pub const USE_WAYPOINT: &str = "istio.io/use-waypoint";
/// The namespace of the waypoint that [`USE_WAYPOINT`] names.
pub const USE_WAYPOINT_NAMESPACE: &str = "istio.io/use-waypoint-namespace";
/// A second waypoint that takes the share of connections in the annotation
/// [`USE_WAYPOINT_CANARY_WEIGHT`](crate::annotations::USE_WAYPOINT_CANARY_WEIGHT).
pub const USE_WAYPOINT_CANARY: &str = "istio.io/use-waypoint-canary";
/// The namespace of the waypoint that [`USE_WAYPOINT_CANARY`] names.
pub const USE_WAYPOINT_CANARY_NAMESPACE: &str = "istio.io/use-waypoint-canary-namespace";
/// Whether gateways at the edge send a service's traffic through its waypoint: `true` or `false`.
pub const INGRESS_USE_WAYPOINT: &str = "istio.io/ingress-use-waypoint";
/// What a waypoint serves: `service`, `workload`, `all` or `none`.
pub const WAYPOINT_FOR: &str = "istio.io/waypoint-for";
/// The Gateway that a generated pod belongs to.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The controller that generated an object.
pub const GATEWAY_MANAGED: &str = "gateway.istio.io/managed";

/// `false` keeps the hosts of a ServiceEntry from being assigned addresses.
pub const ENABLE_AUTO_ALLOCATION: &str = "networking.istio.io/enable-autoallocate-ip";

/// The region of a node.
pub const TOPOLOGY_REGION: &str = "topology.kubernetes.io/region";
/// The zone of a node.
pub const TOPOLOGY_ZONE: &str = "topology.kubernetes.io/zone";
/// The subzone of a node.
pub const TOPOLOGY_SUBZONE: &str = "topology.istio.io/subzone";
/// The network of a namespace, gateway or pod.
pub const TOPOLOGY_NETWORK: &str = "topology.istio.io/network";

/// Tunnel protocols that a pod ends itself; a value that contains `http` means HBONE.
pub const TUNNEL: &str = "networking.istio.io/tunnel";
/// The canonical name of a workload.
pub const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
/// The canonical revision of a workload.
pub const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
/// Overrides the name of the workload that a pod belongs to.
pub const WORKLOAD_NAME: &str = "service.istio.io/workload-name";
/// The recommended name label.
pub const APP_NAME: &str = "app.kubernetes.io/name";
/// The recommended version label.
pub const APP_VERSION: &str = "app.kubernetes.io/version";
/// The customary short name label.
pub const APP: &str = "app";
/// The customary short version label.
pub const VERSION: &str = "version";
/// The hash that a Deployment puts on its ReplicaSets and their pods.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// The name of a namespace, put on every namespace by the API server.
pub const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";
/// The Service that an EndpointSlice belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
