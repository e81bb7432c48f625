//! Regular expressions as RE2 understands them.

use regex::bytes::{Captures, Regex, RegexBuilder};

/// The most memory that a compiled pattern may take, in bytes.
const SIZE_LIMIT: usize = 1 << 20;

/// A regular expression in the syntax of RE2, which Envoy and Istio's API have.
///
/// What is found takes time in proportion to the text, whatever the pattern.
/// Texts are bytes, as Envoy has it: `.` is one byte, a character beyond ASCII is several of them one after the other, and
/// classes, word boundaries and case know ASCII alone.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: Box<str>,
    whole: Regex,
    part: Regex,
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a regular expression: {why}")]
pub struct BadPattern {
    text: String,
    why: String,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is not in RE2's syntax, and what would take more than a MiB when compiled.
    ///
    /// ```
    /// let pattern: routing::Pattern = routing::Pattern::new(r"/api/v\d+(/.*)?").unwrap();
    /// assert!(pattern.is_whole(b"/api/v2/reviews"));
    /// assert!(!pattern.is_whole(b"/x/api/v2"));
    /// ```
    pub fn new(text: &str) -> Result<Self, BadPattern> {
        let bad = |why: String| BadPattern { text: text.to_owned(), why };
        let bytes = in_bytes(text).ok_or_else(|| bad("a character beyond ASCII is escaped".to_owned()))?;
        let compile = |pattern: &str| {
            let mut builder = RegexBuilder::new(pattern);
            builder.unicode(false).size_limit(SIZE_LIMIT).build().map_err(|error| bad(error.to_string()))
        };
        // Read alone first: what is put around it must not close its parentheses.
        let part = compile(&bytes)?;
        Ok(Self { text: text.into(), whole: compile(&format!(r"\A(?:{bytes})\z"))?, part })
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the whole text is what the pattern says.
    #[must_use]
    pub fn is_whole(&self, text: &[u8]) -> bool {
        self.whole.is_match(text)
    }

    /// `text` with every occurrence of the pattern replaced; `\0` to `\9` in `substitution` are the whole occurrence and its
    /// groups, `\\` is a backslash.
    #[must_use]
    pub fn replace_all(&self, text: &[u8], substitution: &str) -> Vec<u8> {
        let replaced = self.part.replace_all(text, |found: &Captures<'_>| expand(substitution, found));
        replaced.into_owned()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

/// A substitution with the groups of what was found; a group that took no part is empty.
fn expand(substitution: &str, found: &Captures<'_>) -> Vec<u8> {
    let mut expanded = Vec::with_capacity(substitution.len());
    let mut rest = substitution.chars();
    while let Some(next) = rest.next() {
        let group = if next == '\\' { rest.next() } else { None };
        match group.map(|group| (group, group.to_digit(10))) {
            Some((_, Some(digit))) => {
                let group = usize::try_from(digit).ok().and_then(|digit| found.get(digit));
                expanded.extend_from_slice(group.map_or(b"", |group| group.as_bytes()));
            }
            Some((other, None)) => expanded.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            None => expanded.extend_from_slice(next.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    expanded
}

/// The pattern with each byte of characters beyond ASCII written out; `None` where one of them is escaped, which has no meaning.
fn in_bytes(text: &str) -> Option<String> {
    let mut written = String::with_capacity(text.len());
    let mut is_escaped = false;
    for next in text.chars() {
        if next.is_ascii() {
            written.push(next);
        } else if is_escaped {
            return None;
        } else {
            written.extend(next.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!(r"\x{byte:02X}")));
        }
        is_escaped = next == '\\' && !is_escaped;
    }
    Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern).unwrap().is_whole(text.as_bytes())
    }

    #[test]
    fn a_pattern_is_one_of_the_whole_text() {
        assert!(is_whole("a|b", "b"));
        assert!(!is_whole("a|b", "ab"));
        assert!(!is_whole("^a", "ab"));
        assert!(is_whole("", ""));
        assert!(!is_whole("", "a"));
    }

    #[test]
    fn what_is_put_around_a_pattern_closes_nothing_of_it() {
        assert!(Pattern::new("a)|(?:b").is_err());
        assert!(Pattern::new("(a").is_err());
    }

    #[test]
    fn classes_and_boundaries_are_those_of_ascii() {
        assert!(is_whole(r"\d+", "123"));
        assert!(!is_whole(r"\d+", "١٢٣"));
        assert!(is_whole(r"[\d,]+", "1,2"));
        assert!(is_whole(r"[^\w-]+", "é!"));
        assert!(is_whole(r"\w+\W+\w+", "a_1é2"));
        assert!(is_whole(r"a\sb\S", "a\tbc"));
        assert!(is_whole(r"a\b.*", "aé"));
        assert!(is_whole("(?i)ab", "AB"));
        assert!(!is_whole("(?i)é", "É"));
    }

    #[test]
    fn a_dot_is_a_byte() {
        assert!(!is_whole("a.o", "aéo"));
        assert!(is_whole("a..o", "aéo"));
        assert!(Pattern::new(".").unwrap().is_whole(b"\xff"));
        assert!(!is_whole(".", "\n"));
        assert!(is_whole("(?s).", "\n"));
    }

    #[test]
    fn a_character_beyond_ascii_is_several_bytes() {
        assert!(is_whole("aéo|ü", "aéo"));
        assert!(is_whole(r"\\é", "\\é"));
        // A class of two bytes, of which the text has both.
        assert!(is_whole("[é]{2}", "é"));
        let error = Pattern::new(r"\é").unwrap_err().to_string();
        assert!(error.ends_with("is not a regular expression: a character beyond ASCII is escaped"), "{error}");
    }

    #[test]
    fn what_is_found_is_replaced_with_its_groups() {
        let pattern = Pattern::new("/(service)/([^/]+)").unwrap();
        let replaced = pattern.replace_all(b"/service/foo/v1/service/bar", r"\2/in-\1\\\0");
        assert_eq!(String::from_utf8(replaced).unwrap(), r"foo/in-service\/service/foo/v1bar/in-service\/service/bar");
        let optional = Pattern::new("a(b)?").unwrap();
        assert_eq!(optional.replace_all(b"a", r"[\1]"), b"[]");
        assert_eq!(optional.replace_all(b"x", "y"), b"x");
    }

    #[test]
    fn a_pattern_that_would_take_too_much_memory_is_refused() {
        let error = Pattern::new("((a{100}){100}){100}").unwrap_err().to_string();
        assert!(error.starts_with("\"((a{100}){100}){100}\" is not a regular expression: "), "{error}");
    }
}
