//! Templates of paths.

use std::fmt;

use crate::Pattern;

/// What a path looks like, as Envoy's [`UriTemplateMatchConfig`] says it.
///
/// A segment is a text, `*` for one segment, `**` for any number of them, `{name}` for one, or `{name=a/*}` for several; a
/// text may follow the last one.
///
/// [`UriTemplateMatchConfig`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/path/match/uri_template/v3/uri_template_match.proto
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    text: Box<str>,
    pattern: Pattern,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a template of paths: {why}")]
pub struct BadTemplate {
    text: String,
    why: &'static str,
}

/// The bytes of a text, apart from slashes: RFC 3986's `pchar` without `*`.
const LITERAL: &str = "-a-zA-Z0-9._~%!$&'()+,;:@=";

/// The most variables that a template has.
const MAX_VARIABLES: usize = 5;

/// The most bytes that a variable's name has.
const MAX_NAME: usize = 16;

impl PathTemplate {
    /// Reads a template.
    ///
    /// # Errors
    /// If it is malformed, or has more than five variables, or `**` before another operator.
    ///
    /// ```
    /// let template = routing::rbac::PathTemplate::parse("/v1/{user}/files/**.txt").unwrap();
    /// assert!(template.matches("/v1/alice/files/a/b.txt"));
    /// assert!(!template.matches("/v1/alice/bob/files/a.txt"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadTemplate> {
        let bad = |why| BadTemplate { text: text.to_owned(), why };
        let mut reader = Reader::default();
        reader.read(text).map_err(bad)?;
        let pattern = Pattern::new(&reader.pattern).map_err(|_error| bad("it is too long"))?;
        Ok(Self { text: text.into(), pattern })
    }

    /// Whether a path, without a query, looks so.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.pattern.is_whole(path.as_bytes())
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[derive(Default)]
struct Reader<'a> {
    pattern: String,
    names: Vec<&'a str>,
    has_text_glob: bool,
}

impl<'a> Reader<'a> {
    fn read(&mut self, text: &'a str) -> Result<(), &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has characters that cannot be seen");
        }
        let mut rest = text.strip_prefix('/').ok_or("it does not begin with a slash")?;
        self.pattern.push('/');
        while !rest.is_empty() {
            rest = self.segment(rest)?;
            match rest.strip_prefix('/') {
                Some(next) => {
                    self.pattern.push('/');
                    rest = next;
                }
                None if rest.is_empty() => {}
                None => {
                    self.literal(rest)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Reads a segment; what follows it.
    fn segment(&mut self, text: &'a str) -> Result<&'a str, &'static str> {
        if let Some(rest) = text.strip_prefix("**") {
            return self.glob("**").map(|()| rest);
        }
        if let Some(rest) = text.strip_prefix('*') {
            return self.glob("*").map(|()| rest);
        }
        if let Some(variable) = text.strip_prefix('{') {
            let (variable, rest) = variable.split_once('}').ok_or("a variable does not end")?;
            return self.variable(variable).map(|()| rest);
        }
        let (literal, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
        self.literal(literal).map(|()| rest)
    }

    fn variable(&mut self, variable: &'a str) -> Result<(), &'static str> {
        let (name, parts) = variable.split_once('=').unwrap_or((variable, "*"));
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || name.len() > MAX_NAME {
            return Err("a variable has no legal name");
        }
        if self.names.contains(&name) {
            return Err("two variables have the same name");
        }
        if self.names.len() == MAX_VARIABLES {
            return Err("it has too many variables");
        }
        self.names.push(name);
        for (index, part) in parts.split('/').enumerate() {
            if index > 0 {
                self.pattern.push('/');
            }
            if matches!(part, "*" | "**") { self.glob(part)? } else { self.literal(part)? }
        }
        Ok(())
    }

    fn glob(&mut self, glob: &str) -> Result<(), &'static str> {
        if self.has_text_glob {
            return Err("an operator follows **");
        }
        self.has_text_glob = glob == "**";
        self.pattern.push_str(&if self.has_text_glob { format!("[{LITERAL}/]*") } else { format!("[{LITERAL}]+") });
        Ok(())
    }

    fn literal(&mut self, text: &str) -> Result<(), &'static str> {
        let is_literal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte);
        if text.is_empty() || !text.bytes().all(is_literal) {
            return Err("a segment is malformed");
        }
        self.pattern.push_str(&regex::escape(text));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(template: &str, path: &str) -> bool {
        PathTemplate::parse(template).unwrap().matches(path)
    }

    #[test]
    fn operators_are_for_segments() {
        assert!(matches("/", "/"));
        assert!(matches("/a/*/c", "/a/b/c"));
        assert!(!matches("/a/*/c", "/a//c"));
        assert!(!matches("/a/*/c", "/a/b/b/c"));
        assert!(matches("/a/**", "/a/"));
        assert!(matches("/a/**", "/a/b/c"));
        assert!(!matches("/a/**", "/a"));
        assert!(matches("/**/c", "//c"));
        assert!(matches("/{x}/{y=b/*}/z", "/a/b/c/z"));
        assert!(!matches("/{x}/{y=b/*}/z", "/a/c/c/z"));
        assert!(matches("/a/", "/a/"));
        assert!(!matches("/a/", "/a"));
    }

    #[test]
    fn a_text_may_follow_the_last_operator() {
        assert!(matches("/*.html", "/a.html"));
        assert!(!matches("/*.html", "/a-html"));
        assert!(matches("/{x=**}.m3u8", "/a/b.m3u8"));
    }

    #[test]
    fn texts_are_no_patterns() {
        assert!(matches("/a.b+(c)$", "/a.b+(c)$"));
        assert!(!matches("/a.b", "/aab"));
        assert!(matches("/*", "/a=b%20"));
        assert!(!matches("/*", "/a*b"));
        assert!(!matches("/**", "/é"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, why) in [
            ("", "slash"),
            ("a", "slash"),
            ("/a b", "cannot be seen"),
            ("/a//b", "malformed"),
            ("/a*", "malformed"),
            ("/***", "malformed"),
            ("/*.x/y", "malformed"),
            ("/{a", "does not end"),
            ("/{*}", "no legal name"),
            ("/{1a}", "no legal name"),
            ("/{abcdefghijklmnopq}", "no legal name"),
            ("/{a=}", "malformed"),
            ("/{a=b/}", "malformed"),
            ("/{a}/{a}", "same name"),
            ("/{a}/{b}/{c}/{d}/{e}/{f}", "too many"),
            ("/**/*", "follows **"),
            ("/**/{a}", "follows **"),
            ("/{a=**/b/*}", "follows **"),
        ] {
            let error = PathTemplate::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && error.starts_with(&format!("{text:?} ")), "{error}");
        }
        assert_eq!(PathTemplate::parse("/{a=b/**}").unwrap().to_string(), "/{a=b/**}");
    }

    /// Whether segments are what they are to be, by trying all lengths of `**`.
    fn matches_naively(template: &[&str], path: &[&str]) -> bool {
        match (template.split_first(), path.split_first()) {
            (None, None) => true,
            (Some((&"**", rest)), _) => (1..=path.len()).any(|count| matches_naively(rest, &path[count..])),
            (Some((&"*", rest)), Some((segment, path))) => !segment.is_empty() && matches_naively(rest, path),
            (Some((text, rest)), Some((segment, path))) => text == segment && matches_naively(rest, path),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_path_matches_as_its_segments_do(template in "(/([ab]|\\*)){0,3}(/\\*\\*)?(/[ab]){0,2}", path in "(/[ab]{0,1}){1,6}") {
            prop_assume!(!template.is_empty());
            let wanted: Vec<&str> = template.split('/').skip(1).collect();
            let found: Vec<&str> = path.split('/').skip(1).collect();
            prop_assert_eq!(matches(&template, &path), matches_naively(&wanted, &found));
        }
    }
}
