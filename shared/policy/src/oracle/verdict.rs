//! The specification, sentence by sentence, and nothing clever.

use std::net::IpAddr;

use super::cases::Case;
use crate::{Action, Authorization, Match, Scope, StringMatch, Unreadable};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Allowed,
    Denied,
    NoneAllowed,
    NotReceived,
    Unreadable,
}

pub(super) fn verdict(c: &Case) -> Verdict {
    let applies = |p: &&Authorization| {
        p.scope == Scope::Global
            || (p.scope == Scope::Namespace && *p.key.namespace == *c.namespace)
            || c.named.contains(&p.key)
    };
    let enforced: Vec<_> = c.policies.iter().filter(applies).filter(|p| !p.dry_run).collect();
    let of = |action| enforced.iter().filter(move |p| p.action == action);
    let is_known =
        |k| c.removed.contains(k) || c.policies.iter().any(|p| p.key == *k) || c.unreadable.iter().any(|p| p.key == *k);
    if of(Action::Deny).any(|p| matches(p, c)) {
        return Verdict::Denied;
    }
    if !c.named.iter().all(is_known) {
        return Verdict::NotReceived;
    }
    let may_apply = |p: &&Unreadable| match p.scope {
        _ if c.named.contains(&p.key) => true,
        Some(Scope::Global) => true,
        Some(Scope::Namespace) | None => *p.key.namespace == *c.namespace,
        Some(Scope::WorkloadSelector) => false,
    };
    let unreadable: Vec<_> = c.unreadable.iter().filter(may_apply).collect();
    if unreadable.iter().any(|p| p.action != Some(Action::Allow)) {
        return Verdict::Unreadable;
    }
    let none_allows = of(Action::Allow).count() == 0 && unreadable.is_empty();
    if none_allows || of(Action::Allow).any(|p| matches(p, c)) {
        return Verdict::Allowed;
    }
    Verdict::NoneAllowed
}

fn matches(p: &Authorization, c: &Case) -> bool {
    let clause = |ms: &[Match]| ms.is_empty() || ms.iter().any(|m| attributes(m, c));
    p.rules.iter().any(|r| r.clauses.iter().filter(|cl| clause(&cl.matches)).count() == r.clauses.len())
}

fn attributes(m: &Match, c: &Case) -> bool {
    let id = c.connection.identity.as_ref().map(ToString::to_string);
    let parts: Vec<&str> = id.as_deref().unwrap_or("").split('/').collect();
    let part = |i: usize| parts.get(i).copied().unwrap_or("");
    let text = |s: &StringMatch, t: &str| match s {
        StringMatch::Exact(x) => **x == *t,
        StringMatch::Prefix(x) => t.get(..x.len()) == Some(&**x),
        StringMatch::Suffix(x) => t.len() >= x.len() && t.get(t.len() - x.len()..) == Some(&**x),
        StringMatch::Presence => t.chars().count() > 0,
    };
    let ip = |range: &types::Cidr, ip: IpAddr| {
        let host_bits = if range.address().is_ipv4() { 32 } else { 128 } - u32::from(range.length());
        let block = 2_u128.checked_pow(host_bits).unwrap_or(u128::MAX);
        range.address().is_ipv4() == ip.is_ipv4() && number(range.address()) / block == number(ip) / block
    };
    let principal = |s: &StringMatch| id.is_some() && text(s, id.as_ref().unwrap().strip_prefix("spiffe://").unwrap());
    let account =
        |a: &crate::ServiceAccountMatch| id.is_some() && *a.namespace == *part(4) && *a.service_account == *part(6);
    let (src, dst) = (c.connection.source_ip, c.connection.destination);
    let asked = [
        both(&m.namespaces, &m.not_namespaces, |s| text(s, part(4))),
        both(&m.principals, &m.not_principals, principal),
        both(&m.source_ips, &m.not_source_ips, |r| ip(r, src)),
        both(&m.destination_ips, &m.not_destination_ips, |r| ip(r, dst.ip())),
        both(&m.destination_ports, &m.not_destination_ports, |p| *p == dst.port()),
        both(&m.service_accounts, &m.not_service_accounts, account),
    ];
    asked.iter().any(Option::is_some) && asked.iter().all(|answer| answer.unwrap_or(true))
}

/// `None` when nothing is asked.
fn both<T>(yes: &[T], no: &[T], hit: impl Fn(&T) -> bool) -> Option<bool> {
    match (yes, no) {
        ([], []) => None,
        ([], no) => Some(!no.iter().any(hit)),
        (yes, no) => Some(yes.iter().any(&hit) && !no.iter().any(&hit)),
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}
