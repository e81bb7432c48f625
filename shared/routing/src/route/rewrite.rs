//! What paths and authorities are made on the way.

use std::borrow::Cow;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::matching::{PathMatch, plain};
use crate::Pattern;

/// Where the path of a request is kept that was replaced.
pub(super) const ORIGINAL_PATH: HeaderName = HeaderName::from_static("x-envoy-original-path");
/// Where the authority of a request is kept that was replaced.
const ORIGINAL_HOST: HeaderName = HeaderName::from_static("x-envoy-original-host");
/// Where authorities of a request are kept for applications, by old custom.
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What the path of a request is made; the query stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// The part of the path that the route is for is replaced: a prefix, or the whole path of any other route.
    ///
    /// Slashes are neither added nor removed: `/` in place of `/v1` makes `//x` of `/v1/x`.
    Prefix(Box<str>),
    /// What the pattern finds in the path is replaced.
    Pattern {
        /// What is looked for.
        pattern: Pattern,
        /// What is put there, with `\1` for groups.
        substitution: Box<str>,
    },
}

/// What the authority of a request is made; it stays where that is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRewrite {
    /// This text.
    Literal(Box<str>),
    /// The first value of a header.
    FromHeader(HeaderName),
    /// The path without the query, where what the pattern finds is replaced.
    FromPath {
        /// What is looked for.
        pattern: Pattern,
        /// What is put there, with `\1` for groups.
        substitution: Box<str>,
    },
}

/// The head of a request on its way to the destination.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The authority.
    pub authority: String,
    /// The path with the query.
    pub path: String,
    /// The headers, without pseudo headers and `host`.
    pub headers: HeaderMap,
}

impl PathRewrite {
    /// What a path is made that the route is for; `None` where it stays.
    ///
    /// It stays where it would be replaced with nothing, and where a filter has changed it so that the route is no longer
    /// for it.
    pub(super) fn apply(&self, route: &PathMatch, path: &str) -> Option<String> {
        let (new, rest) = match self {
            Self::Prefix(new) => (Cow::Borrowed(&**new), route.rest(path)?),
            Self::Pattern { pattern, substitution } => {
                (substitute(pattern, substitution, path)?, path.get(plain(path).len()..)?)
            }
        };
        (!new.is_empty()).then(|| format!("{new}{rest}"))
    }
}

impl HostRewrite {
    fn apply<'a>(&'a self, outgoing: &'a Outgoing) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(host) => Some(Cow::Borrowed(host)),
            Self::FromHeader(name) => outgoing.headers.get(name)?.to_str().ok().map(Cow::Borrowed),
            Self::FromPath { pattern, substitution } => substitute(pattern, substitution, &outgoing.path),
        }
    }
}

impl Outgoing {
    /// Replaces the path, and keeps the old one in a header where `keeps_original`.
    pub(super) fn rewrite_path(&mut self, rewrite: &PathRewrite, route: &PathMatch, keeps_original: bool) {
        let Some(path) = rewrite.apply(route, &self.path) else { return };
        let old = std::mem::replace(&mut self.path, path);
        if keeps_original {
            self.set(ORIGINAL_PATH, &old);
        }
    }

    /// Replaces the authority, and keeps the old one in headers where `keeps_original` and where `appends_forwarded`.
    pub(super) fn rewrite_authority(&mut self, rewrite: &HostRewrite, keeps_original: bool, appends_forwarded: bool) {
        let new = rewrite.apply(self).filter(|host| !host.is_empty());
        let Some(new) = new.map(Cow::into_owned) else { return };
        let old = std::mem::replace(&mut self.authority, new);
        if old.is_empty() {
            return;
        }
        if keeps_original {
            self.set(ORIGINAL_HOST, &old);
        }
        if appends_forwarded {
            self.append_forwarded_host(&old);
        }
    }

    /// Appends a host to those that are there, unless it is the last of them.
    fn append_forwarded_host(&mut self, host: &str) {
        let before = self.headers.get_all(FORWARDED_HOST).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        let before = before.collect::<Vec<_>>().join(",");
        if before.is_empty() {
            self.set(FORWARDED_HOST, host);
        } else if before.rsplit(',').find(|last| !last.is_empty()) != Some(host) {
            self.set(FORWARDED_HOST, &format!("{before},{host}"));
        }
    }

    fn set(&mut self, name: HeaderName, value: &str) {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
    }
}

/// The path without the query, with what the pattern finds replaced.
fn substitute(pattern: &Pattern, substitution: &str, path: &str) -> Option<Cow<'static, str>> {
    String::from_utf8(pattern.replace_all(plain(path).as_bytes(), substitution)).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests;
