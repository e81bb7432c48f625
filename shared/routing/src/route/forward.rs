//! Where a route sends requests, and how.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::rewrite::{HostRewrite, PathRewrite};
use crate::{Changes, Fraction, HashPolicy, Request, RetryPolicy, TimeoutPolicy};

/// How a route sends requests on, as Envoy's [`RouteAction`] says it.
///
/// Times that are `None` are unset; what that means is said at each of them.
///
/// [`RouteAction`]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/route/v3/route_components.proto#config-route-v3-routeaction
#[derive(Debug, Clone)]
pub struct Forward {
    /// The cluster that requests go to.
    pub cluster: ClusterChoice,
    /// What a client is answered where there is no such cluster.
    pub missing_cluster: MissingCluster,
    /// What the path is made.
    pub path_rewrite: Option<PathRewrite>,
    /// What the authority is made.
    pub host_rewrite: Option<HostRewrite>,
    /// Whether an authority that is replaced is appended to `x-forwarded-host`.
    pub appends_forwarded_host: bool,
    /// How long a request may take; [`Forward::DEFAULT_TIMEOUT`] where the control plane says nothing.
    pub timeouts: TimeoutPolicy,
    /// The longest time that nothing happens on a stream; zero is no limit, unset the limit of the listener.
    pub idle_timeout: Option<Duration>,
    /// The longest time that a stream may take; zero is no limit, unset the limit of the listener.
    pub max_stream_duration: Option<Duration>,
    /// What consistent hashing looks at.
    pub hash: Vec<HashPolicy>,
    /// When requests are sent again; never where `None`.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Who else gets the requests.
    pub mirrors: Vec<Mirror>,
    /// Which upgrades are otherwise than the listener says.
    pub upgrades: Vec<Upgrade>,
}

/// How a cluster is chosen.
#[derive(Debug, Clone)]
pub enum ClusterChoice {
    /// This one.
    One(Box<str>),
    /// One of several, at random by weight.
    Weighted(WeightedClusters),
    /// The one that the first value of this header or pseudo header names; where the header is absent, that without a
    /// name, which does not exist.
    FromHeader(Box<str>),
}

/// Clusters among which requests are shared out.
#[derive(Debug, Clone)]
pub struct WeightedClusters {
    clusters: Vec<WeightedCluster>,
    /// The sum of the weights, which is not zero.
    total: u32,
}

/// One of several clusters.
#[derive(Debug, Clone)]
pub struct WeightedCluster {
    /// The cluster's name.
    pub name: Box<str>,
    /// Its share; one without any gets no requests.
    pub weight: u32,
    /// What is changed about headers of requests to it and of its responses, before what the route changes.
    pub changes: Changes,
    /// What the authority of requests to it is made; what the route makes it comes later.
    pub host_rewrite: Option<Box<str>>,
}

/// Weights whose sum is zero or does not fit into 32 bits, which Envoy refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the weights of clusters add up to {0}")]
pub struct BadWeights(u64);

/// What a client is answered where a route's cluster does not exist.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MissingCluster {
    /// 503.
    #[default]
    Unavailable,
    /// 404.
    NotFound,
    /// 500.
    InternalError,
}

/// A cluster that gets copies of requests, whose responses nobody sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// The cluster's name.
    pub cluster: Box<str>,
    /// The share of requests that are copied.
    pub fraction: Fraction,
    /// Whether the copies' authority tells that they are copies.
    pub appends_shadow_to_host: bool,
}

/// A protocol that requests may or may not upgrade to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// The protocol's name, of which case makes no difference.
    pub protocol: Box<str>,
    /// Whether it may be upgraded to.
    pub is_enabled: bool,
}

impl Forward {
    /// How long a request may take where nothing is said about that.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(15);

    /// Sends requests to one cluster as they are, with Envoy's defaults.
    #[must_use]
    pub fn to(cluster: ClusterChoice) -> Self {
        Self {
            cluster,
            missing_cluster: MissingCluster::default(),
            path_rewrite: None,
            host_rewrite: None,
            appends_forwarded_host: false,
            timeouts: TimeoutPolicy { route: Self::DEFAULT_TIMEOUT, ..TimeoutPolicy::default() },
            idle_timeout: None,
            max_stream_duration: None,
            hash: Vec::new(),
            retry: None,
            mirrors: Vec::new(),
            upgrades: Vec::new(),
        }
    }

    /// Who gets copies of the request with the number `random`.
    pub fn mirrors_of(&self, random: u64) -> impl Iterator<Item = &Mirror> {
        self.mirrors.iter().filter(move |mirror| mirror.fraction.includes(random))
    }
}

impl ClusterChoice {
    /// The cluster that a request goes to, and the one of several that it is.
    pub(super) fn choose(&self, request: &Request<'_>, random: u64) -> (Cow<'_, str>, Option<&WeightedCluster>) {
        match self {
            Self::One(name) => (Cow::Borrowed(name), None),
            Self::Weighted(clusters) => {
                let cluster = clusters.choose(random);
                (Cow::Borrowed(cluster.map_or("", |cluster| &cluster.name)), cluster)
            }
            Self::FromHeader(name) => {
                let first = request.headers.get(&**name).map(|value| Cow::Borrowed(value.as_bytes()));
                let value = first.or_else(|| request.header(name)).unwrap_or_default();
                (Cow::Owned(String::from_utf8_lossy(&value).into_owned()), None)
            }
        }
    }
}

impl WeightedClusters {
    /// Shares requests out among `clusters`.
    ///
    /// # Errors
    /// If the weights add up to nothing or to more than 32 bits hold.
    pub fn new(clusters: Vec<WeightedCluster>) -> Result<Self, BadWeights> {
        let total = clusters.iter().map(|cluster| u64::from(cluster.weight)).sum();
        match u32::try_from(total) {
            Ok(sum) if sum > 0 => Ok(Self { clusters, total: sum }),
            _ => Err(BadWeights(total)),
        }
    }

    /// The cluster in whose share `random` is; always one, since some weight is not zero.
    fn choose(&self, random: u64) -> Option<&WeightedCluster> {
        let mut left = random % u64::from(self.total);
        self.clusters.iter().find(|cluster| {
            let is_within = left < u64::from(cluster.weight);
            left = left.saturating_sub(u64::from(cluster.weight));
            is_within
        })
    }
}

impl MissingCluster {
    /// The status of the answer.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::InternalError => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl Mirror {
    /// The authority of the copy of a request with this `authority`: `a-shadow:80` for `a:80`, if it is to tell.
    #[must_use]
    pub fn authority<'a>(&self, authority: &'a str) -> Cow<'a, str> {
        if !self.appends_shadow_to_host {
            return Cow::Borrowed(authority);
        }
        let host = super::domain::without_port(authority);
        let port = authority.get(host.len()..).unwrap_or_default();
        Cow::Owned(format!("{host}-shadow{port}"))
    }
}

#[cfg(test)]
mod tests;
