//! The table of kinds: how the API names them, in which versions and under which short names.
//!
//! The API server serves these rows, discovery lists them, checks look them up.

/// One kind of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The API group; empty for the core group.
    pub group: &'static str,
    /// Served versions; the first is the preferred one, in which objects are kept.
    pub versions: &'static [&'static str],
    /// The kind, as in `PeerAuthentication`.
    pub kind: &'static str,
    /// The resource, as in `peerauthentications`.
    pub plural: &'static str,
    /// Short names that users type.
    pub short_names: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether there is a `status` subresource.
    pub has_status: bool,
}

impl Kind {
    /// The singular name, as in `peerauthentication`.
    #[must_use]
    pub fn singular(&self) -> String {
        self.kind.to_lowercase()
    }

    /// `group/version`, or the version alone in the core group.
    #[must_use]
    pub fn api_version(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }

    /// The preferred version.
    #[must_use]
    pub fn preferred_version(&self) -> &'static str {
        self.versions.first().copied().unwrap_or_default()
    }

    /// Whether the kind is served in this version.
    #[must_use]
    pub fn serves(&self, version: &str) -> bool {
        self.versions.contains(&version)
    }

    /// The categories by which users ask for many kinds at once.
    #[must_use]
    pub fn categories(&self) -> &'static [&'static str] {
        match self.group {
            "networking.istio.io" => &["istio-io", "networking-istio-io"],
            "security.istio.io" => &["istio-io", "security-istio-io"],
            "telemetry.istio.io" => &["istio-io", "telemetry-istio-io"],
            "extensions.istio.io" => &["istio-io", "extensions-istio-io"],
            "gateway.networking.k8s.io" => &["gateway-api"],
            "" if matches!(self.kind, "Pod" | "Service") => &["all"],
            "apps" | "autoscaling" => &["all"],
            _ => &[],
        }
    }
}

/// Every kind: core first, then the Gateway API, then Istio.
pub fn all() -> impl Iterator<Item = &'static Kind> {
    CORE.iter().chain(GATEWAY_API).chain(ISTIO)
}

/// The kind of an object, if it is served in that version.
#[must_use]
pub fn find(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let (group, version) = split(api_version);
    all().find(|row| row.group == group && row.kind == kind && row.serves(version))
}

/// Splits `group/version`; the core group has no slash.
#[must_use]
pub fn split(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

const fn row(group: &'static str, versions: &'static [&'static str], kind: &'static str, plural: &'static str) -> Kind {
    Kind { group, versions, kind, plural, short_names: &[], namespaced: true, has_status: true }
}

impl Kind {
    const fn short(mut self, names: &'static [&'static str]) -> Self {
        self.short_names = names;
        self
    }

    const fn cluster_wide(mut self) -> Self {
        self.namespaced = false;
        self
    }

    const fn without_status(mut self) -> Self {
        self.has_status = false;
        self
    }
}

const CORE_V1: &[&str] = &["v1"];

/// Kinds of Kubernetes itself that the mesh and its lab use.
pub const CORE: &[Kind] = &[
    row("", CORE_V1, "Namespace", "namespaces").short(&["ns"]).cluster_wide(),
    row("", CORE_V1, "Node", "nodes").short(&["no"]).cluster_wide(),
    row("", CORE_V1, "Pod", "pods").short(&["po"]),
    row("", CORE_V1, "Service", "services").short(&["svc"]),
    row("", CORE_V1, "ServiceAccount", "serviceaccounts").short(&["sa"]).without_status(),
    row("", CORE_V1, "ConfigMap", "configmaps").short(&["cm"]).without_status(),
    row("", CORE_V1, "Secret", "secrets").without_status(),
    row("", CORE_V1, "Event", "events").short(&["ev"]).without_status(),
    row("events.k8s.io", CORE_V1, "Event", "events").short(&["ev"]).without_status(),
    row("discovery.k8s.io", CORE_V1, "EndpointSlice", "endpointslices").without_status(),
    row("coordination.k8s.io", CORE_V1, "Lease", "leases").without_status(),
    row("apps", CORE_V1, "Deployment", "deployments").short(&["deploy"]),
    row("apps", CORE_V1, "ReplicaSet", "replicasets").short(&["rs"]),
    row("apps", CORE_V1, "DaemonSet", "daemonsets").short(&["ds"]),
    row("batch", CORE_V1, "Job", "jobs"),
    row("autoscaling", &["v2"], "HorizontalPodAutoscaler", "horizontalpodautoscalers").short(&["hpa"]),
    row("policy", CORE_V1, "PodDisruptionBudget", "poddisruptionbudgets").short(&["pdb"]),
    row("networking.k8s.io", CORE_V1, "NetworkPolicy", "networkpolicies").short(&["netpol"]).without_status(),
];

const GATEWAY: &str = "gateway.networking.k8s.io";

/// Kinds of the [Gateway API](https://gateway-api.sigs.k8s.io/reference/spec/), standard channel.
pub const GATEWAY_API: &[Kind] = &[
    row(GATEWAY, &["v1", "v1beta1"], "GatewayClass", "gatewayclasses").short(&["gc"]).cluster_wide(),
    row(GATEWAY, &["v1", "v1beta1"], "Gateway", "gateways").short(&["gtw"]),
    row(GATEWAY, &["v1", "v1beta1"], "HTTPRoute", "httproutes"),
    row(GATEWAY, &["v1"], "GRPCRoute", "grpcroutes"),
    row(GATEWAY, &["v1", "v1alpha3", "v1alpha2"], "TLSRoute", "tlsroutes"),
    row(GATEWAY, &["v1", "v1alpha2"], "TCPRoute", "tcproutes"),
    row(GATEWAY, &["v1", "v1alpha2"], "UDPRoute", "udproutes"),
    row(GATEWAY, &["v1", "v1beta1"], "ReferenceGrant", "referencegrants").short(&["refgrant"]).without_status(),
    row(GATEWAY, &["v1", "v1alpha3"], "BackendTLSPolicy", "backendtlspolicies").short(&["btlspolicy"]),
    row(GATEWAY, &["v1"], "ListenerSet", "listenersets").short(&["lset"]),
];

const NETWORKING: &str = "networking.istio.io";
const NETWORKING_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const SECURITY: &str = "security.istio.io";
const SECURITY_VERSIONS: &[&str] = &["v1", "v1beta1"];
const EXTENSIONS: &str = "extensions.istio.io";

/// Kinds of [Istio](https://istio.io/latest/docs/reference/config/).
pub const ISTIO: &[Kind] = &[
    row(NETWORKING, NETWORKING_VERSIONS, "DestinationRule", "destinationrules").short(&["dr"]),
    row(NETWORKING, &["v1alpha3"], "EnvoyFilter", "envoyfilters"),
    row(NETWORKING, NETWORKING_VERSIONS, "Gateway", "gateways").short(&["gw"]),
    row(NETWORKING, &["v1beta1"], "ProxyConfig", "proxyconfigs"),
    row(NETWORKING, NETWORKING_VERSIONS, "ServiceEntry", "serviceentries").short(&["se"]),
    row(NETWORKING, NETWORKING_VERSIONS, "Sidecar", "sidecars"),
    row(NETWORKING, NETWORKING_VERSIONS, "VirtualService", "virtualservices").short(&["vs"]),
    row(NETWORKING, NETWORKING_VERSIONS, "WorkloadEntry", "workloadentries").short(&["we"]),
    row(NETWORKING, NETWORKING_VERSIONS, "WorkloadGroup", "workloadgroups").short(&["wg"]),
    row(SECURITY, SECURITY_VERSIONS, "AuthorizationPolicy", "authorizationpolicies").short(&["ap"]),
    row(SECURITY, SECURITY_VERSIONS, "PeerAuthentication", "peerauthentications").short(&["pa"]),
    row(SECURITY, SECURITY_VERSIONS, "RequestAuthentication", "requestauthentications").short(&["ra"]),
    row("telemetry.istio.io", &["v1", "v1alpha1"], "Telemetry", "telemetries").short(&["telemetry"]),
    row(EXTENSIONS, &["v1alpha1"], "TrafficExtension", "trafficextensions"),
    row(EXTENSIONS, &["v1alpha1"], "WasmPlugin", "wasmplugins"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_in_each_of_its_versions_only() {
        for version in ["security.istio.io/v1", "security.istio.io/v1beta1"] {
            assert_eq!(find(version, "PeerAuthentication").unwrap().plural, "peerauthentications");
        }
        assert_eq!(find("security.istio.io/v1alpha1", "PeerAuthentication"), None);
        assert_eq!(find("policy.linkerd.io/v1alpha1", "AuthorizationPolicy"), None);
        assert!(!find("v1", "Node").unwrap().namespaced);
    }

    #[test]
    fn resources_are_unique_within_their_group() {
        let mut seen = std::collections::BTreeSet::new();
        assert!(all().all(|row| seen.insert((row.group, row.plural)) && !row.versions.is_empty()));
    }
}
