//! Label selectors of the node agent's enablement rule.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Selects the pods that both selectors match.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct EnablementSelector {
    /// Labels of the pod.
    pub pod_selector: LabelSelector,
    /// Labels of its namespace.
    pub namespace_selector: LabelSelector,
}

/// A Kubernetes label selector; the empty one matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct LabelSelector {
    /// Labels that must have these values.
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements, all of which must hold.
    pub match_expressions: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// The values that `In` and `NotIn` compare with.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What a requirement says about a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// Present with one of the values.
    In,
    /// Absent, or present with another value.
    NotIn,
    /// Present.
    Exists,
    /// Absent.
    DoesNotExist,
}

impl EnablementSelector {
    /// The rule without configuration: the pod says `ambient`, or its namespace does and the pod does not say `none`.
    #[must_use]
    pub fn defaults() -> Vec<Self> {
        const MODE: &str = "istio.io/dataplane-mode";
        let ambient = || LabelSelector {
            match_labels: BTreeMap::from([(MODE.to_owned(), "ambient".to_owned())]),
            match_expressions: Vec::new(),
        };
        let not_none = Requirement { key: MODE.to_owned(), operator: Operator::NotIn, values: vec!["none".to_owned()] };
        vec![
            Self { pod_selector: ambient(), namespace_selector: LabelSelector::default() },
            Self {
                pod_selector: LabelSelector { match_labels: BTreeMap::new(), match_expressions: vec![not_none] },
                namespace_selector: ambient(),
            },
        ]
    }

    /// Whether a pod with these labels, in a namespace with those, is selected.
    #[must_use]
    pub fn matches(&self, pod: &BTreeMap<String, String>, namespace: &BTreeMap<String, String>) -> bool {
        self.pod_selector.matches(pod) && self.namespace_selector.matches(namespace)
    }
}

impl LabelSelector {
    /// Whether an object with these labels is selected.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.match_labels.iter().all(|(key, value)| labels.get(key) == Some(value))
            && self.match_expressions.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(pod: &str, namespace: &str) -> bool {
        let labels = |value: &str| match value {
            "" => BTreeMap::new(),
            value => BTreeMap::from([("istio.io/dataplane-mode".to_owned(), value.to_owned())]),
        };
        EnablementSelector::defaults().iter().any(|rule| rule.matches(&labels(pod), &labels(namespace)))
    }

    #[test]
    fn the_pods_own_label_goes_before_its_namespaces() {
        assert!(selected("", "ambient"));
        assert!(selected("ambient", ""));
        assert!(selected("ambient", "none"));
        assert!(!selected("none", "ambient"));
        assert!(!selected("", ""));
        assert!(!selected("", "sidecar"));
    }
}
