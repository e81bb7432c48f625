//! How a header is compared.

use crate::text::number;
use crate::{Request, TextMatch};

/// What a header of a request has to be, as Envoy's [`HeaderMatcher`] says it.
///
/// [`HeaderMatcher`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-headermatcher
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The header or pseudo header; case makes no difference.
    pub name: Box<str>,
    /// What it has to be.
    pub kind: HeaderMatchKind,
    /// Whether the contrary is asked for.
    pub inverts: bool,
    /// Whether an absent header counts as one with an empty value.
    pub treats_missing_as_empty: bool,
}

/// What a header has to be, or one of its values where it has several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderMatchKind {
    /// There, or with false absent.
    Present(bool),
    /// A text.
    Text(TextMatch),
    /// A decimal number from the first on and below the second.
    Range(i64, i64),
}

impl HeaderMatch {
    /// Whether the request's header is what is asked for.
    #[must_use]
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.matches_values(request.header_values(&self.name))
    }

    /// Whether a header with these values is what is asked for; one without any is absent.
    ///
    /// An absent header is neither one that has the wanted value nor one that has not; only presence can be asked.
    ///
    /// ```
    /// use routing::{HeaderMatch, HeaderMatchKind, TextMatch};
    ///
    /// let not_alice = HeaderMatch {
    ///     name: "user".into(),
    ///     kind: HeaderMatchKind::Text(TextMatch::exact("alice")),
    ///     inverts: true,
    ///     treats_missing_as_empty: false,
    /// };
    /// assert!(not_alice.matches_values([b"bob".as_slice()]));
    /// assert!(!not_alice.matches_values([b"alice".as_slice()]));
    /// assert!(!not_alice.matches_values([]));
    /// ```
    #[must_use]
    pub fn matches_values<'v>(&self, values: impl IntoIterator<Item = &'v [u8]>) -> bool {
        let mut values = values.into_iter().peekable();
        let has_some = if values.peek().is_some() {
            values.any(|value| self.kind.has(value))
        } else if self.treats_missing_as_empty {
            self.kind.has(b"")
        } else {
            return self.kind == HeaderMatchKind::Present(self.inverts);
        };
        has_some != self.inverts
    }
}

impl HeaderMatchKind {
    /// Whether this value is what is asked for.
    fn has(&self, value: &[u8]) -> bool {
        match self {
            Self::Present(is_wanted) => *is_wanted,
            Self::Text(text) => text.matches(value),
            Self::Range(start, end) => number(value).is_some_and(|number: i64| (*start..*end).contains(&number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Asked;

    fn ask(kind: HeaderMatchKind) -> HeaderMatch {
        HeaderMatch { name: "X-Number".into(), kind, inverts: false, treats_missing_as_empty: false }
    }

    /// What the question, its contrary, and both of an absent header treated as empty answer.
    fn answers(kind: HeaderMatchKind, value: Option<&[u8]>) -> [bool; 4] {
        [(false, false), (true, false), (false, true), (true, true)].map(|(inverts, treats_missing_as_empty)| {
            HeaderMatch { inverts, treats_missing_as_empty, ..ask(kind.clone()) }.matches_values(value)
        })
    }

    #[test]
    fn presence_is_asked_for_both_ways() {
        use HeaderMatchKind::Present;
        assert_eq!(answers(Present(true), Some(b"")), [true, false, true, false]);
        assert_eq!(answers(Present(false), Some(b"")), [false, true, false, true]);
        assert_eq!(answers(Present(true), None), [false, true, true, false]);
        assert_eq!(answers(Present(false), None), [true, false, false, true]);
    }

    #[test]
    fn an_absent_header_has_no_value_unless_it_is_treated_as_empty() {
        let empty = HeaderMatchKind::Text(TextMatch::exact(""));
        assert_eq!(answers(empty.clone(), Some(b"")), [true, false, true, false]);
        assert_eq!(answers(empty, None), [false, false, true, false]);
        let some = HeaderMatchKind::Text(TextMatch::exact("a"));
        assert_eq!(answers(some.clone(), Some(b"b")), [false, true, false, true]);
        assert_eq!(answers(some, None), [false, false, false, true]);
    }

    #[test]
    fn a_number_is_within_a_half_open_range() {
        let range = ask(HeaderMatchKind::Range(-1, 3));
        for value in ["-1", "2", "+2", " 2 ", "02"] {
            assert!(range.matches_values([value.as_bytes()]), "{value:?}");
        }
        for value in ["-2", "3", "", "2.0", "0x1", "1,2", "99999999999999999999"] {
            assert!(!range.matches_values([value.as_bytes()]), "{value:?}");
        }
        assert!(range.matches_values([b"none".as_slice(), b"2"]));
        let contrary = HeaderMatch { inverts: true, ..range };
        assert!(contrary.matches_values([b"none".as_slice()]));
    }

    #[test]
    fn names_are_those_of_headers_and_of_pseudo_headers() {
        let asked = Asked::new("a:80", "/p?q").with("x-number", "a").with("x-number", "b");
        let request = asked.request();
        assert!(ask(HeaderMatchKind::Text(TextMatch::exact("b"))).matches(&request));
        assert!(!ask(HeaderMatchKind::Text(TextMatch::exact("a,b"))).matches(&request));
        let path = HeaderMatch { name: ":path".into(), ..ask(HeaderMatchKind::Text(TextMatch::exact("/p?q"))) };
        assert!(path.matches(&request));
        let host = HeaderMatch { name: "Host".into(), ..ask(HeaderMatchKind::Text(TextMatch::exact("a:80"))) };
        assert!(host.matches(&request));
    }
}
