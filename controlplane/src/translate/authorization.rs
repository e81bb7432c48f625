//! AuthorizationPolicy to Authorization.
//!
//! What a node proxy cannot evaluate, or what is not understood, never makes a policy more permissive: a rule that
//! allows is left out, a rule that denies loses the part and so denies more.

use std::net::IpAddr;

use kinds::AuthorizationPolicy;
use kinds::annotations;
use kinds::check::http_attributes;
use kinds::security::{self, Condition, Operation, Source};
use proto::istio::security::{
    Action, Address, Authorization, Clause, Match, Rule, Scope, ServiceAccountMatch, StringMatch, string_match,
};
use types::Cidr;

use super::Options;
use super::service::octets;
use crate::checked::Checked;
use crate::objects::Named;

/// Derives the policy that node proxies enforce; `None` if it is not for them.
pub(super) fn derive(policy: &Checked<AuthorizationPolicy>, options: &Options) -> Option<Authorization> {
    let spec = &policy.object.spec;
    if spec.is_for_waypoints() {
        return None;
    }
    let dry_run = policy.annotation(annotations::DRY_RUN) == Some("true");
    if dry_run && !options.dry_run_policies {
        return None;
    }
    let (action, is_understood) = match spec.action() {
        security::Action::Allow => (Action::Allow, !policy.is_unclear()),
        security::Action::Deny => (Action::Deny, true),
        security::Action::Audit | security::Action::Custom => return None,
        // Whatever it was meant to do, it must not end in permission.
        security::Action::Unknown(_) => (Action::Allow, false),
    };
    let unclear = policy.unclear_rules();
    let derive_rule = |(index, rule)| derive_rule(rule, action, unclear.contains(&index), policy.namespace());
    let rules =
        if is_understood { spec.rules.iter().enumerate().filter_map(derive_rule).collect() } else { Vec::new() };
    let scope = match spec.selected() {
        Some(_) => Scope::WorkloadSelector,
        None if policy.namespace() == options.root_namespace => Scope::Global,
        None => Scope::Namespace,
    };
    Some(Authorization {
        name: policy.name().to_owned(),
        namespace: policy.namespace().to_owned(),
        scope: scope.into(),
        action: action.into(),
        rules,
        dry_run,
        extensions: Vec::new(),
    })
}

/// A rule's clauses: operations, sources, then one per condition.
fn derive_rule(rule: &security::Rule, action: Action, is_unclear: bool, namespace: &str) -> Option<Rule> {
    if action == Action::Allow && (is_unclear || !http_attributes(rule).is_empty()) {
        return None;
    }
    let mut lists = Lists { namespace };
    let operations: Vec<Match> = rule.to.iter().map(|to| lists.operation(&to.operation)).collect();
    let sources: Vec<Match> = rule.from.iter().map(|from| lists.source(&from.source)).collect();
    let conditions = rule.when.iter().map(|when| vec![lists.condition(when)]);
    let clauses = [operations, sources].into_iter().chain(conditions);
    Some(Rule { clauses: clauses.filter_map(clause).collect() })
}

/// Alternatives, one of which has lost all of its constraints, constrain nothing.
///
/// Sent as it is, a match without constraints would never match, and a policy that denies would let pass.
fn clause(matches: Vec<Match>) -> Option<Clause> {
    let is_constraining = !matches.is_empty() && matches.iter().all(|one| *one != Match::default());
    is_constraining.then_some(Clause { matches })
}

/// Turns lists of texts into lists of matches.
struct Lists<'a> {
    /// The namespace of service accounts that name none.
    namespace: &'a str,
}

impl Lists<'_> {
    fn operation(&mut self, operation: &Operation) -> Match {
        Match {
            destination_ports: all(&operation.ports, port),
            not_destination_ports: all(&operation.not_ports, port),
            ..Match::default()
        }
    }

    fn source(&mut self, source: &Source) -> Match {
        Match {
            namespaces: all(&source.namespaces, text),
            not_namespaces: all(&source.not_namespaces, text),
            principals: all(&source.principals, principal),
            not_principals: all(&source.not_principals, principal),
            source_ips: all(&source.ip_blocks, block),
            not_source_ips: all(&source.not_ip_blocks, block),
            service_accounts: all(&source.service_accounts, |account| self.account(account)),
            not_service_accounts: all(&source.not_service_accounts, |account| self.account(account)),
            ..Match::default()
        }
    }

    fn condition(&mut self, when: &Condition) -> Match {
        let (values, not_values) = (&when.values, &when.not_values);
        let mut found = Match::default();
        match when.key.as_str() {
            "source.ip" => (found.source_ips, found.not_source_ips) = (all(values, block), all(not_values, block)),
            "source.namespace" => {
                (found.namespaces, found.not_namespaces) = (all(values, text), all(not_values, text));
            }
            "source.principal" => {
                (found.principals, found.not_principals) = (all(values, principal), all(not_values, principal));
            }
            "destination.ip" => {
                (found.destination_ips, found.not_destination_ips) = (all(values, block), all(not_values, block));
            }
            "destination.port" => {
                (found.destination_ports, found.not_destination_ports) = (all(values, port), all(not_values, port));
            }
            _ => {}
        }
        found
    }

    fn account(&self, text: &str) -> Option<ServiceAccountMatch> {
        let (namespace, account) = text.split_once('/').unwrap_or((self.namespace, text));
        let is_account = !namespace.is_empty() && !account.is_empty() && !account.contains('/');
        is_account.then(|| ServiceAccountMatch { namespace: namespace.to_owned(), service_account: account.to_owned() })
    }
}

/// Converts a list whole or, if one value of it is not understood, not at all.
///
/// Only a policy that denies gets here with such a list: without it, it denies more.
fn all<T>(values: &[String], convert: impl Fn(&str) -> Option<T>) -> Vec<T> {
    values.iter().map(|value| convert(value)).collect::<Option<_>>().unwrap_or_default()
}

fn text(value: &str) -> Option<StringMatch> {
    use string_match::MatchType;
    let match_type = match (value, value.strip_prefix('*'), value.strip_suffix('*')) {
        ("", _, _) => return None,
        ("*", _, _) => MatchType::Presence(()),
        (_, Some(suffix), _) => MatchType::Suffix(suffix.to_owned()),
        (_, None, Some(prefix)) => MatchType::Prefix(prefix.to_owned()),
        (exact, None, None) => MatchType::Exact(exact.to_owned()),
    };
    Some(StringMatch { match_type: Some(match_type) })
}

/// Principals are compared without their scheme, so one with a scheme would never match.
fn principal(value: &str) -> Option<StringMatch> {
    if value.starts_with("spiffe://") { None } else { text(value) }
}

fn port(value: &str) -> Option<u32> {
    let is_decimal = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse::<u16>().ok().filter(|port| is_decimal && *port > 0).map(u32::from)
}

/// The address is sent as it was given, host bits included.
fn block(value: &str) -> Option<Address> {
    match value.parse::<IpAddr>() {
        Ok(ip) => Some(Address { address: octets(ip), length: if ip.is_ipv4() { 32 } else { 128 } }),
        Err(_) => {
            let range: Cidr = value.parse().ok()?;
            Some(Address { address: octets(range.address()), length: u32::from(range.length()) })
        }
    }
}
