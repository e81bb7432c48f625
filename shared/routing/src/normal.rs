//! Paths in one form, before anything is decided about them.

use std::borrow::Cow;

/// What is done to paths, as Envoy's [`HttpConnectionManager`] says it.
///
/// [`HttpConnectionManager`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Normalisation {
    /// Whether dot segments are resolved (RFC 3986), backslashes become slashes, unreserved characters are unescaped, and
    /// others that a path cannot have are escaped.
    pub normalises: bool,
    /// Whether several slashes become one.
    pub merges_slashes: bool,
    /// What happens to `%2F` and `%5C`, before everything else.
    pub escaped_slashes: EscapedSlashes,
}

/// What happens to slashes and backslashes that are escaped in a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// They stay as they are.
    #[default]
    Keep,
    /// The request is refused.
    Reject,
    /// They are unescaped, and the client is told to ask for the path that this gives.
    Redirect,
    /// They are unescaped.
    Unescape,
}

/// Why a request does not go on with its path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathRefused {
    /// It is refused with status 400 and the details `path_normalization_failed`.
    #[error("the path has a fragment, an escaped slash or a NUL character")]
    Malformed,
    /// The client is to ask for this path instead, by status 307; a request of gRPC is refused with 400.
    #[error("the path is to be {0:?}")]
    Moved(String),
}

impl Normalisation {
    /// The path, with its query, in the form that is asked for; the query stays as it is.
    ///
    /// # Errors
    /// If the request cannot go on with this path; one with a fragment never can.
    ///
    /// ```
    /// use routing::Normalisation;
    ///
    /// let normalisation = Normalisation { normalises: true, merges_slashes: true, ..Normalisation::default() };
    /// assert_eq!(normalisation.apply("/a/./b/../%63//d?x=/../").unwrap(), "/a/c/d?x=/../");
    /// ```
    pub fn apply<'p>(&self, path: &'p str) -> Result<Cow<'p, str>, PathRefused> {
        if path.contains('#') {
            return Err(PathRefused::Malformed);
        }
        let (plain, query) = path.split_at(path.find('?').unwrap_or(path.len()));
        let mut form = Cow::Borrowed(plain);
        let has_escaped = self.escaped_slashes != EscapedSlashes::Keep && has_escaped_slashes(plain);
        if has_escaped {
            if self.escaped_slashes == EscapedSlashes::Reject {
                return Err(PathRefused::Malformed);
            }
            form = Cow::Owned(unescape_slashes(plain));
        }
        if self.normalises && !is_canonical(&form) {
            form = Cow::Owned(canonical(&strip_dot_parameters(&form)).ok_or(PathRefused::Malformed)?);
        }
        if self.merges_slashes && form.contains("//") {
            form = Cow::Owned(merge_slashes(&form));
        }
        if has_escaped && self.escaped_slashes == EscapedSlashes::Redirect {
            return Err(PathRefused::Moved(format!("{form}{query}")));
        }
        Ok(if form == plain { Cow::Borrowed(path) } else { Cow::Owned(format!("{form}{query}")) })
    }
}

fn has_escaped_slashes(path: &str) -> bool {
    ["%2F", "%2f", "%5C", "%5c"].iter().any(|escaped| path.contains(escaped))
}

fn unescape_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/").replace("%5C", "\\").replace("%5c", "\\")
}

fn merge_slashes(path: &str) -> String {
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let start = if path.starts_with('/') { "/" } else { "" };
    let end = if path.ends_with('/') { "/" } else { "" };
    format!("{start}{}{end}", segments.join("/"))
}

/// The path with `..;a=b` as `..`, so that whoever ignores parameters of segments sees no other path than we do.
fn strip_dot_parameters(path: &str) -> Cow<'_, str> {
    if !path.contains(".;") {
        return Cow::Borrowed(path);
    }
    let kept = |segment: &str| match segment.split_once(';') {
        Some((dots @ ("." | ".."), _)) => dots.len(),
        _ => segment.len(),
    };
    let stripped = path.split('/').map(|segment| segment.get(..kept(segment)).unwrap_or_default());
    Cow::Owned(stripped.collect::<Vec<_>>().join("/"))
}

/// The path as Chromium's URL library has it, which Envoy asks; `None` where it has a NUL character.
///
/// What stays escaped keeps the case of its digits.
fn canonical(path: &str) -> Option<String> {
    let mut output = String::with_capacity(path.len());
    let mut rest = path.as_bytes();
    if !rest.first().is_some_and(|byte| is_slash(*byte)) {
        output.push('/');
    }
    while let Some((first, after)) = rest.split_first() {
        if let Some(after_dot) = strip_dot(rest) {
            let resolved = if output.ends_with('/') { resolve(&mut output, after_dot) } else { None };
            rest = resolved.unwrap_or_else(|| {
                output.push('.');
                after_dot
            });
            continue;
        }
        rest = after;
        match *first {
            b'\\' => output.push('/'),
            b'%' => match escaped(after) {
                Some((0, _)) => return None,
                Some((byte, after)) if is_unreserved(byte) => {
                    output.push(char::from(byte));
                    escape_nested(&mut output, after.first());
                    rest = after;
                }
                // What is escaped stays, and what looks so does, too.
                _ => output.push('%'),
            },
            0 => return None,
            byte if must_be_escaped(byte) => output.push_str(&format!("%{byte:02X}")),
            byte => output.push(char::from(byte)),
        }
    }
    Some(output)
}

/// Escapes a percent sign that was none of an escape, if the character that was just unescaped makes it one.
fn escape_nested(output: &mut String, next: Option<&u8>) {
    let is_hex = |byte: &u8| byte.is_ascii_hexdigit();
    let percent = match output.as_bytes() {
        [before @ .., b'%', first, second] if is_hex(first) && is_hex(second) => before.len(),
        [before @ .., b'%', first] if is_hex(first) && next.is_some_and(is_hex) => before.len(),
        _ => return,
    };
    output.insert_str(percent + 1, "25");
}

/// Whether a path is plainly as `canonical` would have it, as most are.
fn is_canonical(path: &str) -> bool {
    let changes = |byte| matches!(byte, b'%' | b'\\') || must_be_escaped(byte);
    path.starts_with('/') && !path.contains("/.") && !path.bytes().any(changes)
}

/// Resolves a dot segment of which the first dot is before `after`; what is after it, or `None` if it is none.
fn resolve<'a>(output: &mut String, after: &'a [u8]) -> Option<&'a [u8]> {
    let end = |rest: &'a [u8]| match rest.split_first() {
        None => Some(rest),
        Some((byte, rest)) if is_slash(*byte) => Some(rest),
        Some(_) => None,
    };
    if let Some(rest) = end(after) {
        return Some(rest);
    }
    let rest = end(strip_dot(after)?)?;
    // The slash at the end does not count; the first one always stays.
    let parent = output.strip_suffix('/').and_then(|path| path.rfind('/')).unwrap_or(0);
    output.truncate(parent + 1);
    Some(rest)
}

/// What is after a dot, escaped or not.
fn strip_dot(text: &[u8]) -> Option<&[u8]> {
    [b".".as_slice(), b"%2e", b"%2E"].iter().find_map(|dot| text.strip_prefix(*dot))
}

/// The byte that two digits after a percent sign stand for, and what is after them.
fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let value = |digit: &u8| char::from(*digit).to_digit(16);
    let byte = digits.iter().try_fold(0, |sum, digit| Some(sum * 16 + value(digit)?))?;
    Some((u8::try_from(byte).ok()?, rest))
}

fn is_slash(byte: u8) -> bool {
    matches!(byte, b'/' | b'\\')
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~')
}

fn must_be_escaped(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'"' | b'#' | b'<' | b'>' | b'?' | b'^' | b'`' | b'{' | b'|' | b'}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NORMALISE: Normalisation =
        Normalisation { normalises: true, merges_slashes: false, escaped_slashes: EscapedSlashes::Keep };

    fn normal(path: &str) -> String {
        NORMALISE.apply(path).unwrap().into_owned()
    }

    #[test]
    fn dot_segments_are_resolved() {
        for (path, expected) in [
            ("/xyz", "/xyz"),
            ("/a/b/../c", "/a/c"),
            ("/a/b/./c", "/a/b/c"),
            ("a/b/../c", "/a/c"),
            ("/a/b/../../../../c", "/c"),
            ("/a/..\\c", "/c"),
            ("\\a\\b", "/a/b"),
            ("/a/b/%2E%2e/c", "/a/c"),
            ("/a/.", "/a/"),
            ("/a/..", "/"),
            ("/a/..b/.c/d.", "/a/..b/.c/d."),
            ("/a/...", "/a/..."),
            ("/a//../b", "/a/b"),
            ("/a%2e", "/a."),
            ("/a/%2e.%2e", "/a/..."),
            ("", "/"),
            ("/../?/../", "/?/../"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn parameters_of_dot_segments_are_dropped() {
        for (path, expected) in [
            ("/xyz/..;foo=bar/abc", "/abc"),
            ("/xyz/.;foo=bar", "/xyz/"),
            ("/xyz/..;a/.;b/remain;c?/..;d", "/remain;c?/..;d"),
            ("/xyz/...;foo", "/xyz/...;foo"),
            ("/x.;y/z", "/x.;y/z"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn what_a_path_can_have_is_unescaped_and_what_it_cannot_is_escaped() {
        assert_eq!(normal("/%41%7a%30%2d%5F%7E"), "/Az0-_~");
        assert_eq!(normal("/%2F%2f%5c%25%c0%aF%20%3f"), "/%2F%2f%5c%25%c0%aF%20%3f");
        assert_eq!(normal("/a b\"<>^`{|}\u{7f}é"), "/a%20b%22%3C%3E%5E%60%7B%7C%7D%7F%C3%A9");
        assert_eq!(normal("/!$&'()*+,;=:@[]%21"), "/!$&'()*+,;=:@[]%21");
        assert_eq!(normal("/%/%4/%zz/%%41"), "/%/%4/%zz/%A");
        assert_eq!(normal("/%4%41/%%41a/%%41%41/%%41z/%%30%30"), "/%254A/%25Aa/%25AA/%Az/%2500");
    }

    #[test]
    fn what_cannot_be_a_path_is_refused() {
        for path in ["/xyz/.%00../abc", "/xyz/AAAAA%%0000/abc", "/\0"] {
            assert_eq!(NORMALISE.apply(path), Err(PathRefused::Malformed), "{path}");
            assert!(path == "/\0" || Normalisation::default().apply(path).is_ok());
        }
        assert_eq!(Normalisation::default().apply("/a?b#c"), Err(PathRefused::Malformed));
        let text = PathRefused::Malformed.to_string();
        assert_eq!(text, "the path has a fragment, an escaped slash or a NUL character");
    }

    #[test]
    fn slashes_are_merged() {
        let merge = Normalisation { merges_slashes: true, ..Normalisation::default() };
        for (path, expected) in [
            ("/a//b/c/", "/a/b/c/"),
            ("//a////b//", "/a/b/"),
            ("//", "//"),
            ("/a//b?a=///c", "/a/b?a=///c"),
            ("//a/?b", "/a/?b"),
            ("/a/../b", "/a/../b"),
        ] {
            assert_eq!(merge.apply(path).unwrap(), expected, "{path}");
        }
    }

    #[test]
    fn escaped_slashes_are_kept_refused_or_unescaped_first() {
        let of = |escaped_slashes, path| Normalisation { escaped_slashes, ..NORMALISE }.apply(path);
        let path = "/a%2Fb%5c..%5C..%2f%2fc?%2F";
        assert_eq!(of(EscapedSlashes::Keep, path).unwrap(), path);
        assert_eq!(of(EscapedSlashes::Reject, path), Err(PathRefused::Malformed));
        assert_eq!(of(EscapedSlashes::Redirect, path), Err(PathRefused::Moved("//c?%2F".to_owned())));
        assert_eq!(of(EscapedSlashes::Unescape, path).unwrap(), "//c?%2F");
        for kind in [EscapedSlashes::Reject, EscapedSlashes::Redirect, EscapedSlashes::Unescape] {
            assert_eq!(of(kind, "/a%2?%2F").unwrap(), "/a%2?%2F");
        }
        let only = Normalisation { escaped_slashes: EscapedSlashes::Unescape, ..Normalisation::default() };
        assert_eq!(only.apply("/a%5Cb%2fc%%2f").unwrap(), "/a\\b/c%/");
    }

    /// Dot segments by a stack of segments, of a path without escapes.
    fn resolved_naively(path: &str) -> String {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let mut stack = Vec::new();
        for (index, segment) in segments.iter().enumerate() {
            let is_last = index + 1 == segments.len();
            match *segment {
                "." | ".." => {
                    if *segment == ".." {
                        stack.pop();
                    }
                    if is_last {
                        stack.push("");
                    }
                }
                other => stack.push(other),
            }
        }
        format!("/{}", stack.join("/"))
    }

    proptest! {
        #[test]
        fn dot_segments_are_resolved_as_with_a_stack(path in "(/([a.]{0,3})){1,6}") {
            prop_assert_eq!(normal(&path), resolved_naively(&path));
        }

        #[test]
        fn what_is_plainly_canonical_is(path in "[/a.;% \\\\]{0,5}") {
            prop_assert!(!is_canonical(&path) || canonical(&strip_dot_parameters(&path)) == Some(path));
        }

        #[test]
        fn a_normal_path_stays_as_it_is(
            pieces in prop::collection::vec("[/a.\\\\ é]|%2[eEfF5]|%5[cC]|%41|//", 0..12),
            merges_slashes: bool,
            unescapes: bool,
        ) {
            let escaped_slashes = if unescapes { EscapedSlashes::Unescape } else { EscapedSlashes::Keep };
            let normalisation = Normalisation { normalises: true, merges_slashes, escaped_slashes };
            let once = normalisation.apply(&pieces.concat()).unwrap().into_owned();
            prop_assert_eq!(normalisation.apply(&once).unwrap(), once.as_str());
        }
    }
}
