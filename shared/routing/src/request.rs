//! A request as decisions see it.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::Method;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::Value;
use types::Identity;

/// A request, and what is known about who sent it.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a Method,
    /// `http` or `https`.
    pub scheme: &'a str,
    /// `:authority`, or the `host` header of HTTP/1; with the port where the client sent it.
    pub authority: &'a str,
    /// The path with the query, beginning with `/`; `*` and absolute forms do not get here.
    pub path: &'a str,
    /// The headers, without pseudo headers and `host`.
    pub headers: &'a HeaderMap,
    /// The connection that brought it.
    pub connection: &'a Connection,
    /// What filters before this decision found out.
    pub metadata: &'a Metadata,
}

/// A connection to a service, as the tunnel that carries it tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Where it comes from: the peer of the tunnel.
    pub source: SocketAddr,
    /// Where the client wants to go: the service's address and port.
    pub destination: SocketAddr,
    /// Who the client is, as its certificate proves it.
    pub principal: Option<Identity>,
    /// The name that the client asked for in a TLS handshake of its own.
    pub server_name: Option<Arc<str>>,
}

/// What filters tell those after them: by filter, then by key (Envoy's dynamic metadata).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata(serde_json::Map<String, Value>);

impl<'a> Request<'a> {
    /// The value of a header or pseudo header, `None` where there is none; several values are joined by commas.
    ///
    /// ```
    /// use http::{HeaderMap, Method};
    /// use routing::{Connection, Metadata, Request};
    ///
    /// let mut headers = HeaderMap::new();
    /// headers.append("accept", "text/html".parse().unwrap());
    /// headers.append("accept", "*/*".parse().unwrap());
    /// let request = Request {
    ///     method: &Method::GET,
    ///     scheme: "http",
    ///     authority: "reviews:9080",
    ///     path: "/reviews/1?full",
    ///     headers: &headers,
    ///     connection: &Connection {
    ///         source: "10.244.1.5:40000".parse().unwrap(),
    ///         destination: "10.96.0.7:9080".parse().unwrap(),
    ///         principal: None,
    ///         server_name: None,
    ///     },
    ///     metadata: &Metadata::default(),
    /// };
    /// assert_eq!(request.header("Accept").as_deref(), Some(b"text/html,*/*".as_slice()));
    /// assert_eq!(request.header(":authority").as_deref(), Some(b"reviews:9080".as_slice()));
    /// assert_eq!(request.header("cookie"), None);
    /// ```
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut values = self.header_values(name);
        let first = values.next()?;
        Some(values.fold(Cow::Borrowed(first), |joined, value| {
            let mut joined = joined.into_owned();
            joined.push(b',');
            joined.extend_from_slice(value);
            Cow::Owned(joined)
        }))
    }

    /// The values of a header or pseudo header.
    pub(crate) fn header_values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let pseudo = self.pseudo_header(name).map(str::as_bytes);
        pseudo.into_iter().chain(self.headers.get_all(name).iter().map(HeaderValue::as_bytes))
    }

    /// Whether the content is that of a call of gRPC.
    pub(crate) fn is_grpc(&self) -> bool {
        let kind = self.header(CONTENT_TYPE.as_str()).unwrap_or_default();
        kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest, [] | [b'+', ..]))
    }

    /// The path without the query and the fragment.
    #[must_use]
    pub fn plain_path(&self) -> &'a str {
        self.path.split_once(['?', '#']).map_or(self.path, |(path, _)| path)
    }

    /// What is between `?` and `#` in the path; empty where there is no query.
    #[must_use]
    pub fn query(&self) -> &'a str {
        let path = self.path.split_once('#').map_or(self.path, |(path, _)| path);
        path.split_once('?').map_or("", |(_, query)| query)
    }

    fn pseudo_header(&self, name: &str) -> Option<&'a str> {
        let equals = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        match name {
            _ if equals(":method") => Some(self.method.as_str()),
            _ if equals(":scheme") => Some(self.scheme),
            _ if equals(":path") => Some(self.path),
            _ if equals(":authority") || equals("host") => Some(self.authority),
            _ => None,
        }
    }
}

impl Connection {
    /// The source's address, without the port.
    #[must_use]
    pub fn source_ip(&self) -> IpAddr {
        self.source.ip()
    }
}

impl Metadata {
    /// What `filter` tells, in place of what it told before.
    pub fn set(&mut self, filter: &str, value: Value) {
        self.0.insert(filter.to_owned(), value);
    }

    /// What `filter` tells at the end of `path`, a list of keys; `None` where one of them is missing.
    #[must_use]
    pub fn find<'k>(&self, filter: &str, path: impl IntoIterator<Item = &'k str>) -> Option<&Value> {
        path.into_iter().try_fold(self.0.get(filter)?, |value, key| value.get(key))
    }
}
