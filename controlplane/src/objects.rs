//! What the Kubernetes API said last: plain data with one owner, the input of every derivation.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kinds::{AuthorizationPolicy, PeerAuthentication, ServiceEntry, WorkloadEntry};
use kube::Resource;
use kube::core::DynamicObject;
use serde_json::Value;
use types::NamespacedName;

use crate::checked::Checked;

/// Every object that the control plane reads.
#[derive(Debug, Default)]
pub struct Objects {
    /// Namespaces.
    pub namespaces: Store<Namespace>,
    /// Nodes, for localities.
    pub nodes: Store<Node>,
    /// Pods.
    pub pods: Store<Pod>,
    /// Services.
    pub services: Store<Service>,
    /// EndpointSlices, for endpoints that no selector makes.
    pub endpoint_slices: Store<EndpointSlice>,
    /// Who must use mutual TLS.
    pub peer_authentications: Store<Checked<PeerAuthentication>>,
    /// Who may connect.
    pub authorization_policies: Store<Checked<AuthorizationPolicy>>,
    /// Hosts that Kubernetes does not know.
    pub service_entries: Store<Checked<ServiceEntry>>,
    /// Endpoints that are no pods.
    pub workload_entries: Store<Checked<WorkloadEntry>>,
    /// Gateways, of which some are waypoints.
    pub gateways: Store<DynamicObject>,
    /// Their classes, which may say what waypoints serve.
    pub gateway_classes: Store<DynamicObject>,
    /// The ConfigMaps that hold the root certificates.
    pub root_config_maps: Store<ConfigMap>,
    /// The ConfigMaps that hold revocations.
    pub revocation_config_maps: Store<ConfigMap>,
}

impl Objects {
    /// The kinds that have not been listed yet; derivations wait until there are none.
    #[must_use]
    pub fn pending(&self) -> Vec<&'static str> {
        let listed = [
            ("Namespace", self.namespaces.is_listed),
            ("Node", self.nodes.is_listed),
            ("Pod", self.pods.is_listed),
            ("Service", self.services.is_listed),
            ("EndpointSlice", self.endpoint_slices.is_listed),
            ("PeerAuthentication", self.peer_authentications.is_listed),
            ("AuthorizationPolicy", self.authorization_policies.is_listed),
            ("ServiceEntry", self.service_entries.is_listed),
            ("WorkloadEntry", self.workload_entries.is_listed),
            ("Gateway", self.gateways.is_listed),
            ("GatewayClass", self.gateway_classes.is_listed),
            ("ConfigMap", self.root_config_maps.is_listed && self.revocation_config_maps.is_listed),
        ];
        listed.into_iter().filter(|(_, is_listed)| !is_listed).map(|(kind, _)| kind).collect()
    }
}

/// Reading objects from manifests, for explanations and tests.
impl Objects {
    /// Adds one object; whether it is of a kind that the control plane reads.
    ///
    /// # Errors
    /// When it does not fit its type; policies always do, with findings.
    pub fn add(&mut self, object: Value) -> serde_json::Result<bool> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        match (kinds::table::split(version).0, kind.as_str()) {
            ("", "Namespace") => self.namespaces.apply(kinds::typed(&object)?),
            ("", "Node") => self.nodes.apply(kinds::typed(&object)?),
            ("", "Pod") => self.pods.apply(kinds::typed(&object)?),
            ("", "Service") => self.services.apply(kinds::typed(&object)?),
            ("", "ConfigMap") => self.root_config_maps.apply(kinds::typed(&object)?),
            ("discovery.k8s.io", "EndpointSlice") => self.endpoint_slices.apply(kinds::typed(&object)?),
            (kinds::security::GROUP, "PeerAuthentication") => {
                self.peer_authentications.apply(crate::checked::from_value(object)?);
            }
            (kinds::security::GROUP, "AuthorizationPolicy") => {
                self.authorization_policies.apply(crate::checked::from_value(object)?);
            }
            (kinds::networking::GROUP, "ServiceEntry") => {
                self.service_entries.apply(crate::checked::from_value(object)?)
            }
            (kinds::networking::GROUP, "WorkloadEntry") => {
                self.workload_entries.apply(crate::checked::from_value(object)?);
            }
            (kinds::gateway::GROUP, "Gateway") => self.gateways.apply(serde_json::from_value(object)?),
            (kinds::gateway::GROUP, "GatewayClass") => self.gateway_classes.apply(serde_json::from_value(object)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// All objects of one kind, in the order of their keys.
#[derive(Debug)]
pub struct Store<K> {
    items: BTreeMap<NamespacedName, Arc<K>>,
    is_listed: bool,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), is_listed: false }
    }
}

impl<K: Named> Store<K> {
    /// Adds or replaces one object.
    pub fn apply(&mut self, object: K) {
        self.items.insert(object.key(), Arc::new(object));
    }

    /// Takes one object out.
    pub fn remove(&mut self, key: &NamespacedName) {
        self.items.remove(key);
    }

    /// Replaces everything by a complete list.
    pub fn replace(&mut self, objects: impl IntoIterator<Item = K>) {
        self.items = objects.into_iter().map(|object| (object.key(), Arc::new(object))).collect();
        self.is_listed = true;
    }

    /// One object; the namespace of cluster-wide ones is empty.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.items.get(&NamespacedName::new(namespace, name))
    }

    /// All objects, sorted by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.items.values()
    }
}

/// What has a namespace and a name.
pub trait Named {
    /// The metadata.
    fn metadata(&self) -> &ObjectMeta;

    /// The key; the namespace of cluster-wide objects is empty.
    fn key(&self) -> NamespacedName {
        let metadata = self.metadata();
        let text = |part: &Option<String>| Arc::<str>::from(part.as_deref().unwrap_or_default());
        NamespacedName { namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }

    /// The namespace; empty for cluster-wide objects.
    fn namespace(&self) -> &str {
        self.metadata().namespace.as_deref().unwrap_or_default()
    }

    /// The name.
    fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// A label's value.
    fn label(&self, key: &str) -> Option<&str> {
        self.metadata().labels.as_ref()?.get(key).map(String::as_str)
    }

    /// An annotation's value.
    fn annotation(&self, key: &str) -> Option<&str> {
        self.metadata().annotations.as_ref()?.get(key).map(String::as_str)
    }
}

impl<K: Resource> Named for K {
    fn metadata(&self) -> &ObjectMeta {
        self.meta()
    }
}
