//! How a value that a filter found out is compared.

use serde_json::Value;

use crate::{Metadata, TextMatch};

/// What a value has to be, as Envoy's [`ValueMatcher`] says it.
///
/// A value of another kind is never what is asked for: the text `"1"` is not the number 1.
///
/// [`ValueMatcher`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/value.proto
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatch {
    /// The value null, which is not the same as none.
    Null,
    /// This number.
    Number(f64),
    /// A number from the first on and below the second.
    NumberRange(f64, f64),
    /// A text.
    Text(TextMatch),
    /// This truth value.
    Bool(bool),
    /// Any value where true; with false nothing matches, not even an absent value.
    Present(bool),
    /// A list with an element like this.
    ListWith(Box<Self>),
    /// One of these.
    Any(Vec<Self>),
}

/// What a filter has to have found out about a request, as Envoy's [`MetadataMatcher`] says it.
///
/// [`MetadataMatcher`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/metadata.proto
#[derive(Debug, Clone, PartialEq)]
pub struct MetadataMatch {
    /// The name under which the filter tells what it knows.
    pub filter: Box<str>,
    /// The keys that lead to the value.
    pub path: Vec<Box<str>>,
    /// What the value has to be.
    pub value: ValueMatch,
    /// Whether the contrary is asked for; it is also true of an absent value.
    pub inverts: bool,
}

impl ValueMatch {
    /// Whether `value` is what is asked for; `None` where there is none.
    ///
    /// ```
    /// use routing::{TextMatch, ValueMatch};
    /// use serde_json::json;
    ///
    /// let admin = ValueMatch::ListWith(Box::new(ValueMatch::Text(TextMatch::exact("admin"))));
    /// assert!(admin.matches(Some(&json!(["dev", "admin"]))));
    /// assert!(!admin.matches(Some(&json!("admin"))));
    /// assert!(!admin.matches(None));
    /// ```
    #[must_use]
    pub fn matches(&self, value: Option<&Value>) -> bool {
        value.is_some_and(|value| self.matches_present(value))
    }

    fn matches_present(&self, value: &Value) -> bool {
        match self {
            Self::Null => value.is_null(),
            Self::Number(wanted) => value.as_f64().is_some_and(|number| number == *wanted),
            Self::NumberRange(start, end) => value.as_f64().is_some_and(|number| *start <= number && number < *end),
            Self::Text(text) => value.as_str().is_some_and(|value| text.matches(value.as_bytes())),
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Present(is_wanted) => *is_wanted,
            Self::ListWith(element) => {
                value.as_array().is_some_and(|list| list.iter().any(|value| element.matches_present(value)))
            }
            Self::Any(wanted) => wanted.iter().any(|wanted| wanted.matches_present(value)),
        }
    }
}

impl MetadataMatch {
    /// Whether what filters found out is what is asked for.
    #[must_use]
    pub fn matches(&self, metadata: &Metadata) -> bool {
        let value = metadata.find(&self.filter, self.path.iter().map(|key| &**key));
        self.value.matches(value) != self.inverts
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_of_another_kind_never_matches() {
        let all = [
            ValueMatch::Null,
            ValueMatch::Number(1.0),
            ValueMatch::NumberRange(1.0, 2.0),
            ValueMatch::Text(TextMatch::exact("1")),
            ValueMatch::Bool(true),
            ValueMatch::ListWith(Box::new(ValueMatch::Null)),
        ];
        let of = |value: &Value| all.iter().map(|wanted| wanted.matches(Some(value))).collect::<Vec<_>>();
        assert_eq!(of(&json!(null)), [true, false, false, false, false, false]);
        assert_eq!(of(&json!(1)), [false, true, true, false, false, false]);
        assert_eq!(of(&json!("1")), [false, false, false, true, false, false]);
        assert_eq!(of(&json!(true)), [false, false, false, false, true, false]);
        assert_eq!(of(&json!([1, null])), [false, false, false, false, false, true]);
        assert_eq!(of(&json!({})), [false; 6]);
        assert!(all.iter().all(|wanted| !wanted.matches(None)));
    }

    #[test]
    fn a_range_has_its_start_and_not_its_end() {
        let range = ValueMatch::NumberRange(1.5, 2.0);
        assert!(range.matches(Some(&json!(1.5))));
        assert!(!range.matches(Some(&json!(2))));
    }

    #[test]
    fn presence_is_that_of_any_value() {
        assert!(ValueMatch::Present(true).matches(Some(&json!(null))));
        assert!(!ValueMatch::Present(true).matches(None));
        assert!(!ValueMatch::Present(false).matches(Some(&json!(1))));
        assert!(!ValueMatch::Present(false).matches(None));
    }

    #[test]
    fn one_of_several_is_enough() {
        let either = ValueMatch::Any(vec![ValueMatch::Bool(false), ValueMatch::Number(0.0)]);
        assert!(either.matches(Some(&json!(false))));
        assert!(either.matches(Some(&json!(0))));
        assert!(!either.matches(Some(&json!(true))));
        assert!(!ValueMatch::Any(Vec::new()).matches(Some(&json!(0))));
    }

    #[test]
    fn metadata_is_found_by_its_path() {
        let mut metadata = Metadata::default();
        metadata.set("jwt", json!({ "claims": { "iss": "me" } }));
        let with = |path: &[&str], inverts| MetadataMatch {
            filter: "jwt".into(),
            path: path.iter().map(|key| (*key).into()).collect(),
            value: ValueMatch::Text(TextMatch::exact("me")),
            inverts,
        };
        assert!(with(&["claims", "iss"], false).matches(&metadata));
        assert!(!with(&["claims", "iss"], true).matches(&metadata));
        assert!(!with(&["claims", "sub"], false).matches(&metadata));
        assert!(with(&["claims", "sub"], true).matches(&metadata));
        assert!(!with(&["claims", "iss"], false).matches(&Metadata::default()));
    }
}
