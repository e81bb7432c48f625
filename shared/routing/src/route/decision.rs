//! What becomes of one request.

use std::borrow::Cow;

use http::StatusCode;
use http::header::HeaderMap;

use super::{Action, Forward, Outgoing, Route, RouteTable, VirtualHost, WeightedCluster};
use crate::{Request, Side, Values};

/// What becomes of a request.
#[derive(Debug)]
pub enum Decision<'t> {
    /// It is sent on.
    Forward(Choice<'t>),
    /// Its client is sent elsewhere.
    Redirect {
        /// The route that says so.
        found: Found<'t>,
        /// The status of the answer.
        status: StatusCode,
        /// The `location` header of the answer.
        location: String,
    },
    /// It is answered.
    Respond {
        /// The route that says so.
        found: Found<'t>,
        /// The status of the answer.
        status: StatusCode,
        /// The body of the answer.
        body: &'t [u8],
    },
    /// Nothing is known about it: the answer is 404.
    NoRoute,
}

/// A route, and where it was found.
#[derive(Debug, Clone, Copy)]
pub struct Found<'t> {
    table: &'t RouteTable,
    /// The virtual host.
    pub host: &'t VirtualHost,
    /// The route.
    pub route: &'t Route,
}

/// A cluster to send a request to, and how.
#[derive(Debug)]
pub struct Choice<'t> {
    /// The route that says so.
    pub found: Found<'t>,
    /// How the request is sent on.
    pub forward: &'t Forward,
    /// The cluster; it need not exist.
    pub cluster: Cow<'t, str>,
    weighted: Option<&'t WeightedCluster>,
}

impl RouteTable {
    /// What becomes of `request`.
    ///
    /// `random` is a number that a request is given when it arrives, and that it keeps.
    /// All shares of requests are decided by it, as by Envoy's stream identifier, so that a decision that is taken
    /// again after a filter is the same.
    #[must_use]
    pub fn decide(&self, request: &Request<'_>, random: u64) -> Decision<'_> {
        let Some(found) = self.find(request, random) else { return Decision::NoRoute };
        match &found.route.action {
            Action::Forward(forward) => {
                let (cluster, weighted) = forward.cluster.choose(request, random);
                Decision::Forward(Choice { found, forward, cluster, weighted })
            }
            Action::Redirect(redirect) => {
                let location = redirect.location(&found.route.matches.path, request);
                Decision::Redirect { found, status: redirect.status.code(), location }
            }
            Action::Respond { status, body } => Decision::Respond { found, status: *status, body },
        }
    }

    fn find(&self, request: &Request<'_>, random: u64) -> Option<Found<'_>> {
        let host = self.host(request.authority)?;
        let route = host.routes.iter().find(|route| route.matches.matches(request, random))?;
        Some(Found { table: self, host, route })
    }
}

impl Found<'_> {
    /// Changes the headers of a response.
    pub fn change_response(&self, headers: &mut HeaderMap, values: &impl Values) {
        self.change(Side::Response, headers, values);
    }

    /// Where several change the same header, the last one wins: the table, unless the most specific one is to.
    fn change(&self, side: Side, headers: &mut HeaderMap, values: &impl Values) {
        let mut all = [&self.route.changes, &self.host.changes, &self.table.changes];
        if self.table.most_specific_wins {
            all.reverse();
        }
        for changes in all {
            changes.apply(side, headers, values);
        }
    }
}

impl Choice<'_> {
    /// Makes a request what the destination is to get: headers first, then the authority, then the path.
    ///
    /// What one of several clusters changes comes before what anybody else does, whoever is to win.
    /// Where `keeps_original`, a path and an authority that are replaced are kept in `x-envoy-original-path` and
    /// `x-envoy-original-host`, as they are unless the router is told to add no headers of Envoy's.
    pub fn change_request(&self, outgoing: &mut Outgoing, keeps_original: bool, values: &impl Values) {
        if let Some(weighted) = self.weighted {
            weighted.changes.apply(Side::Request, &mut outgoing.headers, values);
            if let Some(host) = &weighted.host_rewrite {
                outgoing.authority = host.as_ref().to_owned();
            }
        }
        self.found.change(Side::Request, &mut outgoing.headers, values);
        if let Some(rewrite) = &self.forward.host_rewrite {
            outgoing.rewrite_authority(rewrite, keeps_original, self.forward.appends_forwarded_host);
        }
        if let Some(rewrite) = &self.forward.path_rewrite {
            outgoing.rewrite_path(rewrite, &self.found.route.matches.path, keeps_original);
        }
    }

    /// Changes the headers of the response.
    pub fn change_response(&self, headers: &mut HeaderMap, values: &impl Values) {
        if let Some(weighted) = self.weighted {
            weighted.changes.apply(Side::Response, headers, values);
        }
        self.found.change_response(headers, values);
    }
}

#[cfg(test)]
mod tests;
