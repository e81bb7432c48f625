//! Who may do what, as Envoy's [role-based access control] says it.
//!
//! [role-based access control]: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/rbac/v3/rbac.proto

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub use self::condition::Condition;
pub use self::explain::{Explanation, Miss, Place};
pub use self::template::{BadTemplate, PathTemplate};
use crate::{Connection, Request};

mod condition;
mod explain;
mod template;

/// Policies, and what they are for.
///
/// Rules that are only tried out are of this type, too; then nobody acts on the verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// What happens to whatever a policy is for.
    pub action: Action,
    /// The policies by name; of several that match, the first one in the order of names is told.
    pub policies: BTreeMap<Box<str>, Policy>,
}

/// What happens to whatever a policy is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is allowed, and nothing else is.
    Allow,
    /// It is denied, and nothing else is.
    Deny,
    /// It is noted; everything is allowed.
    Log,
}

/// What may be done by whom: it is for whatever one permission and one principal are for.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// What is done; one of these.
    pub permissions: Vec<Condition>,
    /// Who does it; one of these.
    pub principals: Vec<Condition>,
}

/// What rules decide about: a request, or a connection of which nothing else is known.
#[derive(Debug)]
pub struct Subject<'a> {
    connection: &'a Connection,
    request: Option<&'a Request<'a>>,
    remote: IpAddr,
    uri: OnceCell<Option<String>>,
}

/// What rules say about a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict<'r> {
    /// Whether it may go on, as far as these rules are concerned.
    pub is_allowed: bool,
    /// The policy that is for it.
    pub matched: Option<&'r str>,
    /// What the rules do to whatever a policy is for.
    pub action: Action,
}

impl Rules {
    /// What the rules say about `subject`.
    #[must_use]
    pub fn evaluate(&self, subject: &Subject<'_>) -> Verdict<'_> {
        let matched = self.policies.iter().find(|(_, policy)| policy.matches(subject)).map(|(name, _)| &**name);
        let is_allowed = match self.action {
            Action::Allow => matched.is_some(),
            Action::Deny => matched.is_none(),
            Action::Log => true,
        };
        Verdict { is_allowed, matched, action: self.action }
    }

    /// Which policy is for `subject`, or why none is.
    #[must_use]
    pub fn explain(&self, subject: &Subject<'_>) -> Explanation {
        match self.evaluate(subject).matched {
            Some(name) => Explanation::Matched(name.into()),
            None => Explanation::Unmatched(
                self.policies.iter().filter_map(|(name, policy)| Miss::find(name, policy, subject)).collect(),
            ),
        }
    }
}

impl Policy {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let is_one_of = |conditions: &[Condition]| conditions.iter().any(|condition| condition.matches(subject));
        is_one_of(&self.permissions) && is_one_of(&self.principals)
    }
}

impl<'a> Subject<'a> {
    /// A request, which comes from the address `remote` in the end, behind all proxies that are trusted.
    #[must_use]
    pub fn request(request: &'a Request<'a>, remote: IpAddr) -> Self {
        Self { connection: request.connection, request: Some(request), remote, uri: OnceCell::new() }
    }

    /// A connection.
    #[must_use]
    pub fn connection(connection: &'a Connection) -> Self {
        Self { connection, request: None, remote: connection.source_ip(), uri: OnceCell::new() }
    }

    /// The SPIFFE URI of who sent it.
    fn uri(&self) -> Option<&str> {
        self.uri.get_or_init(|| self.connection.principal.as_ref().map(ToString::to_string)).as_deref()
    }
}

impl Verdict<'_> {
    /// The details of the response to a request that is denied, or of the end of a connection that is, as Envoy logs them.
    #[must_use]
    pub fn denial_details(&self) -> String {
        let name = self.matched.unwrap_or("none").replace(|c: char| c.is_ascii_whitespace() || c == '\x0b', "_");
        format!("rbac_access_denied_matched_policy[{name}]")
    }
}

#[cfg(test)]
mod tests;
