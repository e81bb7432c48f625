//! Which nodes of a cluster a comparison takes.

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Node;

use crate::failure::Advised;

/// How many it takes at most: one for clients and what is near them, one for the other servers.
const MOST: usize = 2;

/// The nodes that were named, in their order; else the first two by name that take pods.
///
/// # Errors
/// One that was named is not there or takes no pods; or none does.
pub(super) fn choose<'a>(all: &'a [Node], named: &[String]) -> Result<Vec<&'a Node>> {
    let name = |node: &Node| node.metadata.name.clone().unwrap_or_default();
    let names = || all.iter().map(name).collect::<Vec<_>>().join(", ");
    if !named.is_empty() {
        let find = |wanted: &String| {
            let Some(node) = all.iter().find(|node| name(node) == *wanted) else {
                let next = format!("--nodes takes from: {}", names());
                bail!(Advised::new(format!("the cluster has no node {wanted:?}"), next));
            };
            match why_closed(node) {
                Some(why) => bail!("node {wanted} takes no pods: {why}; expected one that does"),
                None => Ok(node),
            }
        };
        return named.iter().map(find).collect();
    }
    let mut open: Vec<&Node> = all.iter().filter(|node| why_closed(node).is_none()).collect();
    open.sort_by_key(|node| name(node));
    open.truncate(MOST);
    if open.is_empty() {
        let why: Vec<String> =
            all.iter().filter_map(|node| Some(format!("{} ({})", name(node), why_closed(node)?))).collect();
        let next = "see kubectl get nodes; two nodes that take pods are wanted, one is enough for same-node modes";
        bail!(Advised::new(format!("no node takes pods: {}", why.join(", ")), next));
    }
    Ok(open)
}

/// Why pods cannot be put on a node.
fn why_closed(node: &Node) -> Option<String> {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let is_ready = conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let system = node.metadata.labels.iter().find_map(|labels| labels.get("kubernetes.io/os"));
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let taint = taints.into_iter().find(|taint| taint.effect != "PreferNoSchedule");
    let is_cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true);
    if !is_ready {
        return Some("it is not Ready".to_owned());
    }
    if is_cordoned {
        return Some("it is cordoned".to_owned());
    }
    if let Some(taint) = taint {
        return Some(format!("it has taint {}:{}", taint.key, taint.effect));
    }
    system.filter(|system| *system != "linux").map(|system| format!("it runs {system}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, ready: &str, spec: Value) -> Node {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux"}}, "spec": spec,
            "status": {"conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    fn chosen(all: &[Node], named: &[&str]) -> Result<Vec<String>, String> {
        let named: Vec<String> = named.iter().map(|&name| name.to_owned()).collect();
        let found = choose(all, &named).map_err(|error| error.to_string())?;
        Ok(found.iter().filter_map(|node| node.metadata.name.clone()).collect())
    }

    fn all() -> Vec<Node> {
        vec![
            node("d", "True", json!({})),
            node("master", "True", json!({"taints": [{"key": "control-plane", "effect": "NoSchedule"}]})),
            node("c", "True", json!({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]})),
            node("a", "Unknown", json!({})),
            node("b", "True", json!({"unschedulable": true})),
            node("e", "True", json!({})),
        ]
    }

    #[test]
    fn the_first_two_that_take_pods_are_taken() {
        assert_eq!(chosen(&all(), &[]).unwrap(), ["c", "d"]);
        assert_eq!(chosen(&all(), &["e", "c"]).unwrap(), ["e", "c"], "in the order in which they were named");
        assert_eq!(chosen(&all()[..2], &[]).unwrap(), ["d"], "one is better than none");
    }

    #[test]
    fn a_node_that_takes_no_pods_is_told_with_the_reason() {
        assert_eq!(chosen(&all(), &["x", "c"]).unwrap_err(), "the cluster has no node \"x\"");
        let why = chosen(&all(), &["c", "master"]).unwrap_err();
        assert_eq!(why, "node master takes no pods: it has taint control-plane:NoSchedule; expected one that does");
        let why = chosen(&all()[3..5], &[]).unwrap_err();
        assert_eq!(why, "no node takes pods: a (it is not Ready), b (it is cordoned)");
    }
}
