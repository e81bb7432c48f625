//! Which requests a route is for.

use http::Method;

use crate::{Fraction, HeaderMatch, MetadataMatch, Pattern, Request, TextMatch};

/// Which requests a route is for: those for which everything here holds, as Envoy's [`RouteMatch`] says it.
///
/// [`RouteMatch`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routematch
#[derive(Debug, Clone, PartialEq)]
pub struct RouteMatch {
    /// What the path has to be.
    pub path: PathMatch,
    /// Whether case makes no difference in the path; a pattern says that itself.
    pub ignores_case: bool,
    /// What the headers have to be.
    pub headers: Vec<HeaderMatch>,
    /// What the query has to have.
    pub query: Vec<QueryMatch>,
    /// Whether the request has to be one of gRPC.
    pub is_grpc: bool,
    /// The share of requests that the route takes; all where `None`.
    pub fraction: Option<Fraction>,
    /// What filters have to have found out.
    pub metadata: Vec<MetadataMatch>,
}

/// What the path of a request has to be; always without the query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// A text that the path begins with: `/v1` is a prefix of `/v1foo`, and the empty text one of any path.
    Prefix(Box<str>),
    /// The whole path.
    Exact(Box<str>),
    /// Whole segments that the path begins with, without a slash at the end: `/v1` for `/v1/foo`, but not for `/v1foo`.
    Segments(Box<str>),
    /// A pattern of the whole path.
    Pattern(Pattern),
    /// Any, but the method is CONNECT.
    Connect,
}

/// What a parameter of the query has to be, as Envoy's [`QueryParameterMatcher`] says it.
///
/// Names and values are compared as the client wrote them: percent signs stay.
///
/// [`QueryParameterMatcher`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-queryparametermatcher
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryMatch {
    /// The parameter's name; of several with this name the first one counts.
    pub name: Box<str>,
    /// What it has to be.
    pub kind: QueryMatchKind,
}

/// What a parameter of a query has to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryMatchKind {
    /// There, or with false absent.
    Present(bool),
    /// A text; a parameter without `=` is empty.
    Text(TextMatch),
}

impl RouteMatch {
    /// The requests with this path.
    #[must_use]
    pub fn new(path: PathMatch) -> Self {
        Self {
            path,
            ignores_case: false,
            headers: Vec::new(),
            query: Vec::new(),
            is_grpc: false,
            fraction: None,
            metadata: Vec::new(),
        }
    }

    /// Whether the route is for `request`, of which `random` is the number.
    pub(super) fn matches(&self, request: &Request<'_>, random: u64) -> bool {
        self.path.matches(request, self.ignores_case)
            && self.fraction.is_none_or(|fraction| fraction.includes(random))
            && (!self.is_grpc || request.is_grpc())
            && self.headers.iter().all(|header| header.matches(request))
            && self.query.iter().all(|parameter| parameter.matches(request.query()))
            && self.metadata.iter().all(|metadata| metadata.matches(request.metadata))
    }
}

impl PathMatch {
    /// What follows the part of `path` that the route is for; `None` if the route is not for it at all.
    pub(super) fn rest<'a>(&self, path: &'a str) -> Option<&'a str> {
        match self {
            Self::Prefix(text) | Self::Exact(text) | Self::Segments(text) => {
                let (start, rest) = path.split_at_checked(text.len())?;
                start.eq_ignore_ascii_case(text).then_some(rest)
            }
            Self::Pattern(_) | Self::Connect => path.get(plain(path).len()..),
        }
    }

    fn matches(&self, request: &Request<'_>, ignores_case: bool) -> bool {
        let path = request.plain_path();
        let begins_with = |text: &str| path.get(..text.len()).is_some_and(|start| is_same(start, text, ignores_case));
        // A CONNECT of HTTP/1 has no path, and is for no other routes than those.
        let has_path = !request.path.is_empty();
        match self {
            Self::Prefix(text) => has_path && begins_with(text),
            Self::Exact(text) => has_path && is_same(path, text, ignores_case),
            Self::Segments(text) => {
                let rest = path.get(text.len()..);
                begins_with(text) && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Pattern(pattern) => has_path && pattern.is_whole(path.as_bytes()),
            Self::Connect => request.method == Method::CONNECT,
        }
    }
}

impl QueryMatch {
    fn matches(&self, query: &str) -> bool {
        let mut parameters = query.split('&').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")));
        let value = parameters.find(|(name, _)| **name == *self.name).map(|(_, value)| value);
        match &self.kind {
            QueryMatchKind::Present(is_wanted) => value.is_some() == *is_wanted,
            QueryMatchKind::Text(text) => value.is_some_and(|value| text.matches(value.as_bytes())),
        }
    }
}

/// A path without its query and fragment.
pub(super) fn plain(path: &str) -> &str {
    path.split_once(['?', '#']).map_or(path, |(path, _)| path)
}

fn is_same(left: &str, right: &str, ignores_case: bool) -> bool {
    if ignores_case { left.eq_ignore_ascii_case(right) } else { left == right }
}

#[cfg(test)]
mod tests;
