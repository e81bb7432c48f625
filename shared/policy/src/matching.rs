//! Whether a policy matches a connection.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use types::{Cidr, Identity};

use crate::{Authorization, Clause, Match, Rule, ServiceAccountMatch, StringMatch};

/// What policies may ask about a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The TCP peer of the connection to the inbound listener.
    pub source_ip: IpAddr,
    /// Who the peer's certificate says it is; `None` on plaintext.
    pub identity: Option<Identity>,
    /// The pod's address and the port that the application listens on, never the tunnel's port.
    pub destination: SocketAddr,
}

/// A connection with what comparing it with many policies needs only once.
pub(crate) struct Subject<'a> {
    connection: &'a Connection,
    principal: OnceCell<Option<String>>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self { connection, principal: OnceCell::new() }
    }

    fn principal(&self) -> Option<&str> {
        let principal = || self.connection.identity.as_ref().map(Identity::principal);
        self.principal.get_or_init(principal).as_deref()
    }

    fn namespace(&self) -> &str {
        self.connection.identity.as_ref().map_or("", |identity| &identity.namespace)
    }
}

impl Authorization {
    /// Whether any rule matches; without rules the policy never does.
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(subject))
    }
}

impl Rule {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.clauses.iter().all(|clause| clause.matches(subject))
    }
}

impl Clause {
    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.matches.is_empty() || self.matches.iter().any(|one| one.matches(subject))
    }
}

impl Match {
    /// Cheap attributes come first; the order does not change the answer.
    fn matches(&self, subject: &Subject<'_>) -> bool {
        let connection = subject.connection;
        let port = |port: &u16| *port == connection.destination.port();
        let destination = |range: &Cidr| range.contains(connection.destination.ip());
        let source = |range: &Cidr| range.contains(connection.source_ip);
        let namespace = |text: &StringMatch| text.matches(subject.namespace());
        let account = |account: &ServiceAccountMatch| account.matches(connection.identity.as_ref());
        let principal = |text: &StringMatch| subject.principal().is_some_and(|principal| text.matches(principal));
        !self.is_empty()
            && holds(&self.destination_ports, &self.not_destination_ports, port)
            && holds(&self.destination_ips, &self.not_destination_ips, destination)
            && holds(&self.source_ips, &self.not_source_ips, source)
            && holds(&self.namespaces, &self.not_namespaces, namespace)
            && holds(&self.service_accounts, &self.not_service_accounts, account)
            && holds(&self.principals, &self.not_principals, principal)
    }

    /// Whether no attribute is asked about, in which case the match matches nothing.
    ///
    /// Such a match is what remains of one that asked only about layer 7; treating it as true would widen its rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Taking the struct apart makes the compiler ask about a list that is added later.
        let Self {
            namespaces,
            not_namespaces,
            principals,
            not_principals,
            source_ips,
            not_source_ips,
            destination_ips,
            not_destination_ips,
            destination_ports,
            not_destination_ports,
            service_accounts,
            not_service_accounts,
        } = self;
        let texts = [namespaces, not_namespaces, principals, not_principals];
        let ranges = [source_ips, not_source_ips, destination_ips, not_destination_ips];
        texts.iter().all(|list| list.is_empty())
            && ranges.iter().all(|list| list.is_empty())
            && [destination_ports, not_destination_ports].iter().all(|list| list.is_empty())
            && [service_accounts, not_service_accounts].iter().all(|list| list.is_empty())
    }
}

impl StringMatch {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => text == &**wanted,
            Self::Prefix(prefix) => text.starts_with(&**prefix),
            Self::Suffix(suffix) => text.ends_with(&**suffix),
            Self::Presence => !text.is_empty(),
        }
    }
}

impl ServiceAccountMatch {
    fn matches(&self, identity: Option<&Identity>) -> bool {
        identity.is_some_and(|identity| {
            identity.namespace == self.namespace && identity.service_account == self.service_account
        })
    }
}

/// The rule of one attribute: a hit if hits are asked for, and none of what is excluded.
fn holds<T>(wanted: &[T], unwanted: &[T], hit: impl Fn(&T) -> bool) -> bool {
    (wanted.is_empty() || wanted.iter().any(&hit)) && !unwanted.iter().any(&hit)
}

#[cfg(test)]
mod tests;
