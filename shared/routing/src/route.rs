//! Which route a request takes, and what becomes of it there.
//!
//! A table has virtual hosts, which serve domains; those have routes, which send requests on or answer them.
//! A request takes the first route that is for it, of the virtual host that serves its authority best.
//! The rules are those of Envoy's [`RouteConfiguration`].
//!
//! [`RouteConfiguration`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route.proto

mod decision;
mod domain;
#[cfg(test)]
mod example;
mod forward;
mod matching;
mod redirect;
mod rewrite;

use std::sync::Arc;

use http::StatusCode;

use crate::{Changes, CorsPolicy, Fault};

pub use decision::{Choice, Decision, Found};
pub use domain::DuplicateDomain;
pub use forward::{
    BadWeights, ClusterChoice, Forward, Mirror, MissingCluster, Upgrade, WeightedCluster, WeightedClusters,
};
pub use matching::{PathMatch, QueryMatch, QueryMatchKind, RouteMatch};
pub use redirect::{Redirect, RedirectPath, RedirectStatus};
pub use rewrite::{HostRewrite, Outgoing, PathRewrite};

/// All routes of a listener.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    hosts: Vec<VirtualHost>,
    domains: domain::Domains,
    /// What is changed about all requests and responses.
    pub changes: Changes,
    /// Whether the port of an authority makes no difference to the search of a virtual host.
    pub ignores_port: bool,
    /// Whether what a route changes about headers comes after what its host and the table change, and not before.
    pub most_specific_wins: bool,
}

/// The routes of some domains.
#[derive(Debug, Clone)]
pub struct VirtualHost {
    /// Its name, for people.
    pub name: Box<str>,
    /// Whose routes these are: `a.b`, `*.b`, `a.*` or `*`; case makes no difference, a port does.
    pub domains: Vec<Box<str>>,
    /// The routes; a request takes the first one that is for it.
    pub routes: Vec<Route>,
    /// What is changed about requests and responses.
    pub changes: Changes,
    /// Whether the destination is told in `x-envoy-attempt-count` how often a request was sent.
    pub tells_attempts: bool,
}

/// What becomes of some requests.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name, for logs.
    pub name: Box<str>,
    /// Which requests take it.
    pub matches: RouteMatch,
    /// What becomes of them.
    pub action: Action,
    /// What is changed about requests and responses.
    pub changes: Changes,
    /// What traces call requests; the tracer's name for them where `None`.
    pub operation: Option<Box<str>>,
    /// How filters treat requests.
    pub options: Options,
}

/// What becomes of requests.
#[derive(Debug, Clone)]
pub enum Action {
    /// They are sent on.
    Forward(Box<Forward>),
    /// Their clients are sent elsewhere.
    Redirect(Redirect),
    /// They are answered.
    Respond {
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer.
        body: Arc<[u8]>,
    },
}

/// How filters treat requests of a route; `None` leaves it to what the listener says.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which origins may use the responses.
    pub cors: Option<CorsPolicy>,
    /// What is done wrong on purpose.
    pub fault: Option<Fault>,
}

impl RouteTable {
    /// The routes of `hosts`.
    ///
    /// # Errors
    /// If a domain is given twice.
    pub fn new(hosts: Vec<VirtualHost>) -> Result<Self, DuplicateDomain> {
        let mut domains = domain::Domains::default();
        for (index, host) in hosts.iter().enumerate() {
            for domain in &host.domains {
                domains.insert(domain, index)?;
            }
        }
        Ok(Self { hosts, domains, ..Self::default() })
    }

    /// The virtual host that serves `authority`.
    #[must_use]
    pub fn host(&self, authority: &str) -> Option<&VirtualHost> {
        let authority = if self.ignores_port { domain::without_port(authority) } else { authority };
        self.domains.find(authority).and_then(|host| self.hosts.get(host))
    }
}

impl Route {
    /// A route that only has a matcher and an action.
    #[must_use]
    pub fn new(name: &str, matches: RouteMatch, action: Action) -> Self {
        let (changes, options) = (Changes::default(), Options::default());
        Self { name: name.into(), matches, action, changes, operation: None, options }
    }
}
