//! Requests and tables for tests.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Action, ClusterChoice, Forward, PathMatch, Route, RouteMatch, RouteTable, VirtualHost};
use crate::{Changes, Command, Connection, Metadata, Request, Values};

/// What a request is made of.
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) scheme: &'static str,
    pub(super) authority: String,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) metadata: Metadata,
    connection: Connection,
}

impl Asked {
    pub(super) fn new(authority: &str, path: &str) -> Self {
        Self {
            method: Method::GET,
            scheme: "http",
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            metadata: Metadata::default(),
            connection: Connection {
                source: "10.0.0.1:40000".parse().unwrap(),
                destination: "10.0.0.2:80".parse().unwrap(),
                principal: None,
                server_name: None,
            },
        }
    }

    pub(super) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            scheme: self.scheme,
            authority: &self.authority,
            path: &self.path,
            headers: &self.headers,
            connection: &self.connection,
            metadata: &self.metadata,
        }
    }
}

/// Knows nothing that a format asks for.
pub(super) struct Nothing;

impl Values for Nothing {
    fn value(&self, _: &Command) -> Option<Cow<'_, str>> {
        None
    }
}

/// Sends requests with the prefix on to a cluster with the route's name.
pub(super) fn to(name: &str, prefix: &str) -> Route {
    let forward = Forward::to(ClusterChoice::One(name.into()));
    route(name, PathMatch::Prefix(prefix.into()), Action::Forward(Box::new(forward)))
}

pub(super) fn route(name: &str, path: PathMatch, action: Action) -> Route {
    Route::new(name, RouteMatch::new(path), action)
}

pub(super) fn host(domain: &str, routes: Vec<Route>) -> VirtualHost {
    let (name, domains) = (domain.into(), vec![domain.into()]);
    VirtualHost { name, domains, routes, changes: Changes::default(), tells_attempts: false }
}

pub(super) fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::new(vec![host("*", routes)]).unwrap()
}
