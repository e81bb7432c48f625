//! Label and field selectors.

use std::collections::HashSet;

use serde_json::Value;

use super::Status;
use super::kind::Kind;
use super::store::text;

/// Which objects of a kind are meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    pub(crate) namespace: Option<String>,
    labels: Vec<Requirement>,
    fields: Vec<Field>,
}

#[derive(Clone, Debug)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    Absent,
    In(HashSet<String>),
    NotIn(HashSet<String>),
}

#[derive(Clone, Debug)]
struct Field {
    pointer: String,
    value: String,
    is_equal: bool,
}

impl Selector {
    /// Reads both selectors in their query syntax.
    ///
    /// # Errors
    /// `BadRequest` for a syntax error and for fields that the kind does not offer.
    pub(crate) fn parse(kind: &Kind, namespace: Option<&str>, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = parse_labels(labels)
            .map_err(|why| Status::bad_request(format!("unable to parse requirement in {labels:?}: {why}")))?;
        let fields = split(fields).map(|term| parse_field(kind, term)).collect::<Result<_, _>>()?;
        Ok(Self { namespace: namespace.map(str::to_owned), labels, fields })
    }

    /// Whether all objects of the namespaces are meant.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object is meant.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        let namespace = text(object, "/metadata/namespace");
        self.namespace.as_deref().is_none_or(|wanted| wanted == namespace)
            && self.labels.iter().all(|requirement| requirement.matches(object.pointer("/metadata/labels")))
            && self.fields.iter().all(|field| field.matches(object))
    }
}

impl Requirement {
    fn matches(&self, labels: Option<&Value>) -> bool {
        let value = labels.and_then(|labels| labels.get(&self.key)).and_then(Value::as_str);
        match &self.test {
            Test::Exists => value.is_some(),
            Test::Absent => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
        }
    }
}

impl Field {
    fn matches(&self, object: &Value) -> bool {
        (text(object, &self.pointer) == self.value) == self.is_equal
    }
}

fn parse_field(kind: &Kind, term: &str) -> Result<Field, Status> {
    let (path, value, is_equal) = if let Some((path, value)) = term.split_once("!=") {
        (path, value, false)
    } else if let Some((path, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (path, value, true)
    } else {
        return Err(Status::bad_request(format!("invalid selector: {term:?}; can't understand it")));
    };
    let path = path.trim();
    if !["metadata.name", "metadata.namespace"].contains(&path) && !kind.selectable().contains(&path) {
        return Err(Status::bad_request(format!("field label not supported: {path}")));
    }
    // The one field that is not called after where it is.
    let place = if path == "source" { "source.component" } else { path };
    Ok(Field { pointer: format!("/{}", place.replace('.', "/")), value: value.trim().to_owned(), is_equal })
}

fn parse_labels(selector: &str) -> Result<Vec<Requirement>, String> {
    split(selector).map(parse_requirement).collect()
}

fn parse_requirement(term: &str) -> Result<Requirement, String> {
    let one = |value: &str| HashSet::from([value.trim().to_owned()]);
    let (key, test) = if let Some(rest) = term.strip_prefix('!') {
        (rest, Test::Absent)
    } else if let Some((key, value)) = term.split_once("!=") {
        (key, Test::NotIn(one(value)))
    } else if let Some((head, values)) = term.split_once('(') {
        let values = values.strip_suffix(')').ok_or("a closing parenthesis is missing")?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let mut words = head.split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some(key), Some("in"), None) => (key, Test::In(values)),
            (Some(key), Some("notin"), None) => (key, Test::NotIn(values)),
            _ => return Err("expected: KEY in (VALUES) or KEY notin (VALUES)".into()),
        }
    } else if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        (key, Test::In(one(value)))
    } else {
        (term, Test::Exists)
    };
    let key = key.trim();
    let is_key = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_key) {
        return Err(format!("{key:?} is no label key"));
    }
    Ok(Requirement { key: key.to_owned(), test })
}

/// The terms between commas that are not inside parentheses.
fn split(selector: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    selector
        .split(move |character| {
            match character {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            character == ',' && depth == 0
        })
        .map(str::trim)
        .filter(|term| !term.is_empty())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::api::kind;

    fn selects(labels: &str, fields: &str) -> bool {
        let pod = json!({
            "metadata": {"namespace": "shop", "name": "cart", "labels": {"app": "cart", "tier": "back"}},
            "spec": {"nodeName": "node-1"},
        });
        Selector::parse(kind::of::<Pod>(), None, labels, fields).unwrap().matches(&pod)
    }

    #[test]
    fn labels_are_matched_by_equality_and_by_set() {
        for selector in
            ["", "app=cart", "app==cart", "app!=x", "app", "!gone", "tier in (front, back),app", "app notin (x,y)"]
        {
            assert!(selects(selector, ""), "{selector}");
        }
        for selector in ["app=x", "app!=cart", "gone", "!app", "tier in (front)", "app=cart,tier notin (back)"] {
            assert!(!selects(selector, ""), "{selector}");
        }
    }

    #[test]
    fn fields_are_matched_where_the_kind_offers_them() {
        assert!(selects("", "metadata.name=cart,spec.nodeName==node-1"));
        assert!(selects("", "status.phase!=Failed"));
        assert!(!selects("", "spec.nodeName=node-2"));
        let refused = Selector::parse(kind::of::<Pod>(), None, "", "spec.hostNetwork=true").unwrap_err();
        assert_eq!(refused.message, "field label not supported: spec.hostNetwork");
    }

    #[test]
    fn a_broken_label_selector_is_refused() {
        for selector in ["app in (a", "in (a)", "a b c (x)", "=x", "a@b"] {
            assert!(Selector::parse(kind::of::<Pod>(), None, selector, "").is_err(), "{selector}");
        }
    }
}
