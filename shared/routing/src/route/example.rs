//! Tables for tests.

use std::borrow::Cow;

use super::{Action, ClusterChoice, Forward, PathMatch, Route, RouteMatch, RouteTable, VirtualHost};
pub(super) use crate::example::Asked;
use crate::{Changes, Command, Values};

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
