//! How a text is compared.

use std::str::FromStr;

use crate::Pattern;

/// What a text has to be, as Envoy's [`StringMatcher`] says it.
///
/// Texts are bytes, since header values need not be UTF-8; case means that of ASCII letters.
///
/// [`StringMatcher`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/type/matcher/v3/string.proto
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextMatch {
    /// The whole text.
    Exact {
        /// What the text is.
        text: Box<str>,
        /// Whether case makes no difference.
        ignores_case: bool,
    },
    /// What the text begins with.
    Prefix {
        /// Its beginning; empty for any text.
        text: Box<str>,
        /// Whether case makes no difference.
        ignores_case: bool,
    },
    /// What the text ends with.
    Suffix {
        /// Its end.
        text: Box<str>,
        /// Whether case makes no difference.
        ignores_case: bool,
    },
    /// What is somewhere in the text.
    Contains {
        /// The part.
        text: Box<str>,
        /// Whether case makes no difference.
        ignores_case: bool,
    },
    /// A pattern of the whole text.
    Pattern(Pattern),
}

impl TextMatch {
    /// The whole text, case included.
    #[must_use]
    pub fn exact(text: &str) -> Self {
        Self::Exact { text: text.into(), ignores_case: false }
    }

    /// What the text begins with, case included.
    #[must_use]
    pub fn prefix(text: &str) -> Self {
        Self::Prefix { text: text.into(), ignores_case: false }
    }

    /// Whether `text` is what is asked for.
    ///
    /// ```
    /// use routing::TextMatch;
    ///
    /// assert!(TextMatch::prefix("/v1").matches(b"/v1foo"));
    /// let host = TextMatch::Suffix { text: ".Example.com".into(), ignores_case: true };
    /// assert!(host.matches(b"WWW.example.COM"));
    /// ```
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact { text: wanted, ignores_case } => is_same(text, wanted.as_bytes(), *ignores_case),
            Self::Prefix { text: wanted, ignores_case } => {
                text.get(..wanted.len()).is_some_and(|start| is_same(start, wanted.as_bytes(), *ignores_case))
            }
            Self::Suffix { text: wanted, ignores_case } => {
                let end = text.len().checked_sub(wanted.len()).and_then(|start| text.get(start..));
                end.is_some_and(|end| is_same(end, wanted.as_bytes(), *ignores_case))
            }
            Self::Contains { text: wanted, ignores_case } => {
                // No window of length zero exists, and nothing is in every text.
                wanted.is_empty()
                    || text.windows(wanted.len()).any(|part| is_same(part, wanted.as_bytes(), *ignores_case))
            }
            Self::Pattern(pattern) => pattern.is_whole(text),
        }
    }
}

/// A decimal number, with spaces around it allowed, as Envoy reads them.
pub(crate) fn number<N: FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.trim_ascii().parse().ok()
}

fn is_same(left: &[u8], right: &[u8], ignores_case: bool) -> bool {
    if ignores_case { left.eq_ignore_ascii_case(right) } else { left == right }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str, ignores_case: bool) -> [TextMatch; 4] {
        let text: Box<str> = text.into();
        [
            TextMatch::Exact { text: text.clone(), ignores_case },
            TextMatch::Prefix { text: text.clone(), ignores_case },
            TextMatch::Suffix { text: text.clone(), ignores_case },
            TextMatch::Contains { text, ignores_case },
        ]
    }

    #[test]
    fn a_text_is_compared_where_it_should_be() {
        let of = |text: &str| all("Ab", false).map(|wanted| wanted.matches(text.as_bytes()));
        assert_eq!(of("Ab"), [true, true, true, true]);
        assert_eq!(of("Abc"), [false, true, false, true]);
        assert_eq!(of("cAb"), [false, false, true, true]);
        assert_eq!(of("cAbc"), [false, false, false, true]);
        assert_eq!(of("ab"), [false, false, false, false]);
        assert_eq!(of("A"), [false, false, false, false]);
        assert_eq!(of(""), [false, false, false, false]);
    }

    #[test]
    fn case_makes_no_difference_where_it_should_not() {
        for text in ["AB", "aB", "ab"] {
            assert!(all("Ab", true).iter().all(|wanted| wanted.matches(text.as_bytes())), "{text}");
        }
        assert!(!TextMatch::Exact { text: "é".into(), ignores_case: true }.matches("É".as_bytes()));
    }

    #[test]
    fn nothing_is_in_every_text() {
        assert_eq!(all("", false).map(|wanted| wanted.matches(b"x")), [false, true, true, true]);
        assert!(all("", false).iter().all(|wanted| wanted.matches(b"")));
    }

    #[test]
    fn a_text_need_not_be_utf8() {
        assert!(TextMatch::prefix("a").matches(b"a\xff"));
        assert!(!TextMatch::exact("a").matches(b"\xff"));
    }
}
