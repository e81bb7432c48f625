//! What an authorization policy is made of.
//!
//! The shape is that of [`istio.security.Authorization`]:
//! a policy is an OR of rules, a rule an AND of clauses, a clause an OR of matches, a match an AND of attributes.
//!
//! [`istio.security.Authorization`]: https://github.com/istio/ztunnel/blob/master/proto/authorization.proto

use std::sync::Arc;

use types::{Cidr, NamespacedName};

/// One authorization policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// Namespace and name; also the name of the resource on the wire and in `Workload.authorization_policies`.
    pub key: NamespacedName,
    /// To which workloads the policy applies.
    pub scope: Scope,
    /// What a match leads to.
    pub action: Action,
    /// Whether the policy is only reported, not enforced.
    pub dry_run: bool,
    /// The policy matches when any rule does; without rules it never matches.
    pub rules: Vec<Rule>,
}

/// A policy that arrived and could not be read, as far as it could be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its namespace and name.
    pub key: NamespacedName,
    /// Its scope; `None` when that could not be read either, in which case it is taken to be its namespace.
    pub scope: Option<Scope>,
    /// Its action; `None` when that could not be read either, in which case it denies.
    pub action: Option<Action>,
}

/// To which workloads a policy applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Every workload of the mesh.
    Global,
    /// The workloads of the policy's own namespace.
    Namespace,
    /// The workloads that name the policy's key.
    WorkloadSelector,
}

/// What a match of a policy leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The connection is allowed, unless another policy denies it.
    Allow,
    /// The connection is denied, whatever other policies say.
    Deny,
}

/// Alternatives of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// The rule matches when every clause does; without clauses it matches everything.
    pub clauses: Vec<Clause>,
}

/// Conditions of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Clause {
    /// The clause matches when any match does; without matches it matches everything.
    pub matches: Vec<Match>,
}

/// Conditions on the attributes of a connection.
///
/// Each attribute holds when its positive list is empty or has a hit, and its `not_` list has none.
/// All attributes must hold.
/// A match whose lists are all empty matches nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Match {
    /// The namespace of the source's identity; the empty text when it has none.
    pub namespaces: Vec<StringMatch>,
    /// Negative list of the same.
    pub not_namespaces: Vec<StringMatch>,
    /// The source's identity without its `spiffe://`; a source without identity never hits.
    pub principals: Vec<StringMatch>,
    /// Negative list of the same.
    pub not_principals: Vec<StringMatch>,
    /// The peer address of the connection.
    pub source_ips: Vec<Cidr>,
    /// Negative list of the same.
    pub not_source_ips: Vec<Cidr>,
    /// The address that the connection is for.
    pub destination_ips: Vec<Cidr>,
    /// Negative list of the same.
    pub not_destination_ips: Vec<Cidr>,
    /// The port of the workload that the connection is for.
    pub destination_ports: Vec<u16>,
    /// Negative list of the same.
    pub not_destination_ports: Vec<u16>,
    /// Namespace and service account of the source's identity, whatever its trust domain.
    pub service_accounts: Vec<ServiceAccountMatch>,
    /// Negative list of the same.
    pub not_service_accounts: Vec<ServiceAccountMatch>,
}

/// A condition on a text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StringMatch {
    /// The text is this one.
    Exact(Arc<str>),
    /// The text starts so.
    Prefix(Arc<str>),
    /// The text ends so.
    Suffix(Arc<str>),
    /// The text is not empty.
    Presence,
}

/// A service account, in any trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceAccountMatch {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub service_account: Arc<str>,
}
