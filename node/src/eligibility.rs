//! Which pods the mesh captures, and with what options: a pure decision over a pod and its namespace.

use std::collections::BTreeMap;
use std::fmt;

use config::EnablementSelector;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kinds::annotations::{BYPASS_INBOUND_CAPTURE, DNS_CAPTURE, REROUTE_VIRTUAL_INTERFACES, SIDECAR_STATUS};

/// Interface names are at most this long in the kernel (IFNAMSIZ less the terminating zero).
const LONGEST_INTERFACE: usize = 15;

type Labels = BTreeMap<String, String>;

/// What the decision needs to know beyond the pod and its namespace.
#[derive(Debug, Clone)]
pub struct Eligibility {
    /// Ways into the mesh, any of which suffices.
    pub selectors: Vec<EnablementSelector>,
    /// Namespaces that are never captured.
    pub excluded_namespaces: Vec<String>,
    /// Where ztunnel itself runs; it must not capture itself.
    pub system_namespace: String,
    /// Whether name lookups of pods that say nothing about them are captured.
    pub dns_capture: bool,
}

impl Eligibility {
    /// Decides whether a pod belongs into the mesh.
    ///
    /// # Errors
    /// The reason why not.
    pub fn decide(&self, pod: &Pod, namespace: &Namespace) -> Result<Capture, Ineligible> {
        let empty = Labels::new();
        let namespace_name = pod.metadata.namespace.as_deref().unwrap_or_default();
        let pod_labels = pod.metadata.labels.as_ref().unwrap_or(&empty);
        let annotations = pod.metadata.annotations.as_ref().unwrap_or(&empty);
        let namespace_labels = namespace.metadata.labels.as_ref().unwrap_or(&empty);

        if pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true)) {
            return Err(Ineligible::HostNetwork);
        }
        if self.excluded_namespaces.iter().any(|excluded| excluded == namespace_name) {
            return Err(Ineligible::NamespaceExcluded);
        }
        if namespace_name == self.system_namespace && pod_labels.get("app").is_some_and(|app| app == "ztunnel") {
            return Err(Ineligible::Ztunnel);
        }
        if annotations.contains_key(SIDECAR_STATUS) {
            return Err(Ineligible::Sidecar);
        }
        if has_ended(pod) {
            return Err(Ineligible::Ended);
        }
        if !self.selectors.iter().any(|selector| selector.matches(pod_labels, namespace_labels)) {
            return Err(Ineligible::NotSelected);
        }
        Ok(Capture::from_annotations(annotations, self.dns_capture))
    }
}

/// What of a pod's traffic is captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capture {
    /// Leave incoming traffic alone, as an ingress gateway needs it.
    pub outbound_only: bool,
    /// Interfaces whose incoming TCP is treated as outgoing (virtual machines inside the pod).
    pub virtual_interfaces: Vec<String>,
    /// Name lookups too, where ztunnel answers them.
    pub lookups: bool,
}

impl Capture {
    fn from_annotations(annotations: &Labels, dns_capture: bool) -> Self {
        let virtual_interfaces = annotations
            .get(REROUTE_VIRTUAL_INTERFACES)
            .map(|list| {
                list.split(',').map(str::trim).filter(|name| is_interface_name(name)).map(str::to_owned).collect()
            })
            .unwrap_or_default();
        Self {
            outbound_only: annotations.get(BYPASS_INBOUND_CAPTURE).and_then(|value| parse_bool(value)).unwrap_or(false),
            virtual_interfaces,
            lookups: annotations.get(DNS_CAPTURE).and_then(|value| parse_bool(value)).unwrap_or(dns_capture),
        }
    }
}

/// Why a pod is not captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ineligible {
    /// It shares the node's network namespace.
    HostNetwork,
    /// Its namespace is on the list of excluded ones.
    NamespaceExcluded,
    /// It is the node proxy.
    Ztunnel,
    /// A sidecar handles its traffic.
    Sidecar,
    /// It has succeeded or failed.
    Ended,
    /// No label asks for it.
    NotSelected,
}

impl fmt::Display for Ineligible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostNetwork => "the pod uses the node's network",
            Self::NamespaceExcluded => "the namespace is excluded",
            Self::Ztunnel => "the pod is the node proxy",
            Self::Sidecar => "the pod has a sidecar",
            Self::Ended => "the pod has ended",
            Self::NotSelected => "no label asks for it",
        })
    }
}

/// Whether all containers of the pod have ended for good.
#[must_use]
pub fn has_ended(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Values that Go's `strconv.ParseBool` takes.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn is_interface_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= LONGEST_INTERFACE && !name.contains(|c: char| c == '/' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use kinds::labels::DATAPLANE_MODE;
    use serde_json::json;

    use super::*;

    fn eligibility() -> Eligibility {
        Eligibility {
            selectors: EnablementSelector::defaults(),
            excluded_namespaces: vec!["kube-system".to_owned()],
            system_namespace: "aquifer-system".to_owned(),
            dns_capture: false,
        }
    }

    fn decide(pod: serde_json::Value, namespace_mode: Option<&str>) -> Result<Capture, Ineligible> {
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let mut namespace = Namespace::default();
        if let Some(mode) = namespace_mode {
            namespace.metadata.labels = Some(BTreeMap::from([(DATAPLANE_MODE.to_owned(), mode.to_owned())]));
        }
        eligibility().decide(&pod, &namespace)
    }

    fn pod(labels: serde_json::Value) -> serde_json::Value {
        json!({"metadata": {"name": "cart", "namespace": "shop", "labels": labels}})
    }

    #[test]
    fn a_labelled_namespace_enrols_its_pods() {
        assert_eq!(decide(pod(json!({})), Some("ambient")), Ok(Capture::default()));
        assert_eq!(decide(pod(json!({})), None), Err(Ineligible::NotSelected));
        assert_eq!(decide(pod(json!({})), Some("Ambient")), Err(Ineligible::NotSelected));
    }

    #[test]
    fn a_pod_opts_out_of_its_namespace_or_in_without_it() {
        assert_eq!(decide(pod(json!({DATAPLANE_MODE: "none"})), Some("ambient")), Err(Ineligible::NotSelected));
        assert_eq!(decide(pod(json!({DATAPLANE_MODE: "ambient"})), None), Ok(Capture::default()));
    }

    #[test]
    fn pods_that_cannot_be_captured_are_left_alone() {
        let host = json!({"metadata": {"namespace": "shop"}, "spec": {"hostNetwork": true, "containers": []}});
        let sidecar = json!({"metadata": {"namespace": "shop", "annotations": {SIDECAR_STATUS: "{}"}}});
        let ended = json!({"metadata": {"namespace": "shop"}, "status": {"phase": "Succeeded"}});
        let excluded = json!({"metadata": {"namespace": "kube-system"}});
        let ztunnel = json!({"metadata": {"namespace": "aquifer-system", "labels": {"app": "ztunnel"}}});
        for (pod, reason) in [
            (host, Ineligible::HostNetwork),
            (sidecar, Ineligible::Sidecar),
            (ended, Ineligible::Ended),
            (excluded, Ineligible::NamespaceExcluded),
            (ztunnel, Ineligible::Ztunnel),
        ] {
            assert_eq!(decide(pod, Some("ambient")), Err(reason));
        }
    }

    #[test]
    fn annotations_narrow_the_capture() {
        let annotated = json!({"metadata": {"namespace": "shop", "annotations": {
            BYPASS_INBOUND_CAPTURE: "True", REROUTE_VIRTUAL_INTERFACES: "tap0, vnet1,,a/b,much-too-long-a-name"}}});
        let capture = decide(annotated, Some("ambient")).unwrap();
        assert!(capture.outbound_only);
        assert_eq!(capture.virtual_interfaces, ["tap0", "vnet1"]);
    }

    #[test]
    fn an_annotation_decides_about_lookups_and_the_agent_where_there_is_none() {
        for (dns_capture, annotation, expected) in [
            (true, None, true),
            (false, None, false),
            (true, Some("false"), false),
            (false, Some("true"), true),
            (true, Some("maybe"), true),
        ] {
            let annotations = annotation.map(|value| (DNS_CAPTURE.to_owned(), value.to_owned())).into_iter().collect();
            assert_eq!(Capture::from_annotations(&annotations, dns_capture).lookups, expected, "{annotation:?}");
        }
    }

    #[test]
    fn an_unparsable_bool_is_ignored() {
        let annotated = json!({"metadata": {"namespace": "shop", "annotations": {BYPASS_INBOUND_CAPTURE: "yes"}}});
        assert!(!decide(annotated, Some("ambient")).unwrap().outbound_only);
    }
}
