//! Where a route sends clients instead of their requests.

use http::StatusCode;

use super::matching::PathMatch;
use super::rewrite::PathRewrite;
use crate::Request;

/// Where clients are sent, as Envoy's [`RedirectAction`] says it; what is `None` stays as it is in the request.
///
/// [`RedirectAction`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-redirectaction
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Box<str>>,
    /// The host; with a port only if that is written here or in `port`.
    pub host: Option<Box<str>>,
    /// The port.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<RedirectPath>,
    /// Whether the request's query is removed.
    pub strips_query: bool,
    /// The status of the answer.
    pub status: RedirectStatus,
}

/// The path that clients are sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedirectPath {
    /// This one; it has the request's query unless it has one itself, which is never removed.
    Full(Box<str>),
    /// That of the request, changed.
    Rewrite(PathRewrite),
}

/// How clients are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301.
    #[default]
    MovedPermanently,
    /// 302.
    Found,
    /// 303.
    SeeOther,
    /// 307.
    Temporary,
    /// 308.
    Permanent,
}

impl Redirect {
    /// What the `location` header of the answer is to a request that `route` is for.
    pub(super) fn location(&self, route: &PathMatch, request: &Request<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme);
        let host = self.host.as_deref().unwrap_or_else(|| self.kept_host(scheme, request));
        let port = self.port.map(|port| format!(":{port}")).unwrap_or_default();
        let path = self.new_path(route, request.path);
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("{scheme}://{host}{port}{slash}{path}")
    }

    /// The request's authority; without its port if that is replaced, or the default of a scheme that is.
    ///
    /// The old scheme is that of `x-forwarded-proto`, which tells what the client uses and not only what it says.
    fn kept_host<'a>(&self, scheme: &str, request: &Request<'a>) -> &'a str {
        let authority = request.authority;
        let before = if authority.starts_with('[') {
            authority.rfind("]:").map(|bracket| bracket + 1)
        } else {
            authority.rfind(':')
        };
        let Some((host, port)) = before.and_then(|colon| authority.split_at_checked(colon)) else {
            return authority;
        };
        let forwarded = request.header("x-forwarded-proto");
        let old_scheme = forwarded.as_deref().unwrap_or(request.scheme.as_bytes());
        let is_default = matches!((old_scheme, port), (b"http", ":80") | (b"https", ":443"));
        let is_removed = self.port.is_some() || (is_default && old_scheme != scheme.as_bytes());
        if is_removed { host } else { authority }
    }

    fn new_path(&self, route: &PathMatch, path: &str) -> String {
        let query = path.find('?').and_then(|start| path.get(start..)).unwrap_or_default();
        let new = match &self.path {
            Some(RedirectPath::Full(new)) if new.contains('?') => return new.as_ref().to_owned(),
            Some(RedirectPath::Full(new)) => Some(format!("{new}{query}")),
            Some(RedirectPath::Rewrite(rewrite)) => rewrite.apply(route, path),
            None => None,
        };
        let mut new = new.unwrap_or_else(|| path.to_owned());
        if self.strips_query {
            new.truncate(new.find('?').unwrap_or(new.len()));
        }
        new
    }
}

impl RedirectStatus {
    /// The status of the answer.
    #[must_use]
    pub fn code(self) -> StatusCode {
        match self {
            Self::MovedPermanently => StatusCode::MOVED_PERMANENTLY,
            Self::Found => StatusCode::FOUND,
            Self::SeeOther => StatusCode::SEE_OTHER,
            Self::Temporary => StatusCode::TEMPORARY_REDIRECT,
            Self::Permanent => StatusCode::PERMANENT_REDIRECT,
        }
    }
}

#[cfg(test)]
mod tests;
