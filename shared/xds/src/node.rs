//! How a client introduces itself: the node message of its first request.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use proto::envoy::service::discovery::v3::Node;

/// What a node proxy says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeProxy {
    /// The address of its pod; empty when unknown.
    pub instance_ip: String,
    /// The name of its pod.
    pub pod_name: String,
    /// The namespace of its pod.
    pub namespace: String,
    /// The node that it serves.
    pub node_name: String,
    /// The cluster that it belongs to.
    pub cluster_id: String,
    /// Further metadata; wins over the fields above.
    pub metadata: BTreeMap<String, String>,
}

impl NodeProxy {
    /// The message, with the id `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
    #[must_use]
    pub fn to_node(&self) -> Node {
        // The address that Istio's own proxy sends when it does not know its own.
        let ip = if self.instance_ip.is_empty() { "1.1.1.1" } else { &self.instance_ip };
        let mut metadata = BTreeMap::from([
            ("CLUSTER_ID".to_owned(), self.cluster_id.clone()),
            ("INSTANCE_IPS".to_owned(), ip.to_owned()),
            ("NAME".to_owned(), self.pod_name.clone()),
            ("NAMESPACE".to_owned(), self.namespace.clone()),
            ("NODE_NAME".to_owned(), self.node_name.clone()),
        ]);
        metadata.extend(self.metadata.clone());
        Node {
            id: format!("ztunnel~{ip}~{}.{}~{}.svc.cluster.local", self.pod_name, self.namespace, self.namespace),
            cluster: String::new(),
            metadata: Some(Struct {
                fields: metadata.into_iter().map(|(name, value)| (name, text_value(value))).collect(),
            }),
        }
    }
}

/// A text entry of a node's metadata; `None` when it is absent or not a text.
#[must_use]
pub fn metadata_text<'a>(node: &'a Node, name: &str) -> Option<&'a str> {
    match &node.metadata.as_ref()?.fields.get(name)?.kind {
        Some(Kind::StringValue(text)) => Some(text),
        _ => None,
    }
}

fn text_value(text: String) -> Value {
    Value { kind: Some(Kind::StringValue(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_proxy_introduces_itself_as_the_reference_does() {
        let node = NodeProxy {
            instance_ip: "10.20.0.1".to_owned(),
            pod_name: "ztunnel-node1".to_owned(),
            namespace: "istio-system".to_owned(),
            node_name: "node1".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            metadata: BTreeMap::from([("EXTRA".to_owned(), "yes".to_owned())]),
        }
        .to_node();
        assert_eq!(node.id, "ztunnel~10.20.0.1~ztunnel-node1.istio-system~istio-system.svc.cluster.local");
        assert_eq!(metadata_text(&node, "NODE_NAME"), Some("node1"));
        assert_eq!(metadata_text(&node, "EXTRA"), Some("yes"));
        assert_eq!(metadata_text(&node, "ABSENT"), None);
    }
}
