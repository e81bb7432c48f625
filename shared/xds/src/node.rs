//! How a client introduces itself: the node message of its first request.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
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
    /// Further metadata, of any kind that JSON has; wins over the fields above.
    pub metadata: BTreeMap<String, serde_json::Value>,
}

impl NodeProxy {
    /// The message, with the id `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
    #[must_use]
    pub fn to_node(&self) -> Node {
        // The address that Istio's own proxy sends when it does not know its own.
        let ip = if self.instance_ip.is_empty() { "1.1.1.1" } else { &self.instance_ip };
        let mut fields = BTreeMap::from([
            ("CLUSTER_ID".to_owned(), text_value(&self.cluster_id)),
            ("INSTANCE_IPS".to_owned(), text_value(ip)),
            ("NAME".to_owned(), text_value(&self.pod_name)),
            ("NAMESPACE".to_owned(), text_value(&self.namespace)),
            ("NODE_NAME".to_owned(), text_value(&self.node_name)),
        ]);
        fields.extend(self.metadata.iter().map(|(name, json)| (name.clone(), value(json))));
        Node {
            id: format!("ztunnel~{ip}~{}.{}~{}.svc.cluster.local", self.pod_name, self.namespace, self.namespace),
            cluster: String::new(),
            metadata: Some(Struct { fields }),
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

fn text_value(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

/// The same value as protobuf has it; its numbers are floating-point numbers, like JavaScript's.
fn value(json: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    let kind = match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(claim) => Kind::BoolValue(*claim),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(list) => Kind::ListValue(ListValue { values: list.iter().map(value).collect() }),
        Json::Object(map) => {
            Kind::StructValue(Struct { fields: map.iter().map(|(name, json)| (name.clone(), value(json))).collect() })
        }
    };
    Value { kind: Some(kind) }
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
            metadata: BTreeMap::from([("EXTRA".to_owned(), "yes".into())]),
        }
        .to_node();
        assert_eq!(node.id, "ztunnel~10.20.0.1~ztunnel-node1.istio-system~istio-system.svc.cluster.local");
        assert_eq!(metadata_text(&node, "NODE_NAME"), Some("node1"));
        assert_eq!(metadata_text(&node, "EXTRA"), Some("yes"));
        assert_eq!(metadata_text(&node, "ABSENT"), None);
    }
    #[test]
    fn metadata_keeps_its_shape() {
        let json = serde_json::json!({"zones": ["a", 2, true, null], "nested": {"x": "y"}});
        let node = NodeProxy { metadata: BTreeMap::from([("MAP".to_owned(), json)]), ..NodeProxy::default() }.to_node();
        let Some(Kind::StructValue(map)) = &node.metadata.as_ref().unwrap().fields["MAP"].kind else {
            panic!("{node:?}")
        };
        let Some(Kind::ListValue(zones)) = &map.fields["zones"].kind else { panic!("{map:?}") };
        let kinds: Vec<_> = zones.values.iter().map(|value| value.kind.clone().unwrap()).collect();
        let text = Kind::StringValue("a".to_owned());
        assert_eq!(kinds, [text, Kind::NumberValue(2.0), Kind::BoolValue(true), Kind::NullValue(0)]);
        let Some(Kind::StructValue(nested)) = &map.fields["nested"].kind else { panic!("{map:?}") };
        assert_eq!(nested.fields["x"], text_value("y"));
    }
}
