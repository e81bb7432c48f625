//! Random cases that are close to the edge: everything is drawn from a few values, so that hits and misses are common.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::SmallRng;
use types::{Cidr, Identity, NamespacedName};

use crate::{
    Action, Authorization, Clause, Connection, Match, PolicySet, Rule, Scope, ServiceAccountMatch, StringMatch,
    Unreadable,
};

const NAMESPACES: [&str; 3] = ["a", "ab", "b"];
const ACCOUNTS: [&str; 3] = ["x", "xy", "y"];
const TRUST_DOMAINS: [&str; 2] = ["td", "other"];
const IPS: [&str; 4] = ["10.0.0.1", "10.0.0.2", "10.128.0.1", "fd00::1"];
const PORTS: [u16; 3] = [80, 81, 8080];
const NAMES: [&str; 4] = ["p", "q", "r", "s"];

/// What a case is made to tend to; the oracle has the last word on what it is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leaning {
    Open,
    Denied,
    NoneAllowed,
    Missing,
}

#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) policies: Vec<Authorization>,
    pub(super) removed: Vec<NamespacedName>,
    pub(super) unreadable: Vec<Unreadable>,
    pub(super) namespace: String,
    pub(super) named: Vec<NamespacedName>,
    pub(super) connection: Connection,
}

impl Case {
    pub(super) fn random(random: &mut SmallRng) -> Self {
        let leaning = match random.random_range(0..100) {
            0..10 => Leaning::Open,
            10..47 => Leaning::Denied,
            47..93 => Leaning::NoneAllowed,
            _ => Leaning::Missing,
        };
        let namespace = String::from(*pick(random, &NAMESPACES));
        let mut policies: Vec<Authorization> = Vec::new();
        let mut named = Vec::new();
        for _ in 0..random.random_range(if leaning == Leaning::Open { 0..4 } else { 1..6 }) {
            let policy = policy(random, leaning, &namespace);
            if policies.iter().all(|other| other.key != policy.key) {
                if random.random_bool(0.6) {
                    named.push(policy.key.clone());
                }
                policies.push(policy);
            }
        }
        let mut removed = Vec::new();
        for _ in 0..random.random_range(0..3) {
            let key = key(random);
            if policies.iter().all(|policy| policy.key != key) {
                named.push(key.clone());
                removed.push(key);
            }
        }
        if leaning == Leaning::Missing || random.random_bool(0.02) {
            named.push(key(random));
        }
        let mut unreadable = Vec::new();
        if random.random_bool(0.16) {
            let key = key(random);
            if policies.iter().all(|policy| policy.key != key) && !removed.contains(&key) {
                let scopes = [Scope::Global, Scope::Namespace, Scope::WorkloadSelector].map(Some);
                let scope = pick(random, &scopes).filter(|_| random.random_bool(0.8));
                let action = *pick(random, &[None, Some(Action::Deny), Some(Action::Allow)]);
                unreadable.push(Unreadable { key, scope, action });
            }
        }
        Self { policies, removed, unreadable, namespace, named, connection: connection(random) }
    }

    pub(super) fn each_match(&mut self, change: fn(&mut Match)) {
        let rules = self.policies.iter_mut().flat_map(|policy| &mut policy.rules);
        rules.flat_map(|rule| &mut rule.clauses).flat_map(|clause| &mut clause.matches).for_each(change);
    }

    /// The policies as a proxy would have them after some updates.
    pub(super) fn set(&self) -> PolicySet {
        let gone = self.removed.iter().map(|key| Authorization {
            key: key.clone(),
            scope: Scope::Global,
            action: Action::Deny,
            dry_run: false,
            rules: vec![Rule::default()],
        });
        let first = PolicySet::default().with(gone, []);
        // Of a policy that is there, an unreadable version changes nothing.
        let spoil = |policy: &Authorization| Unreadable { key: policy.key.clone(), scope: None, action: None };
        let spoilt = self.policies.iter().map(spoil);
        let second = first.with(self.policies.iter().cloned(), self.removed.iter().cloned());
        second.with_unreadable(self.unreadable.iter().cloned().chain(spoilt))
    }
}

fn pick<'a, T>(random: &mut SmallRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

fn key(random: &mut SmallRng) -> NamespacedName {
    NamespacedName::new(*pick(random, &NAMESPACES), *pick(random, &NAMES))
}

fn connection(random: &mut SmallRng) -> Connection {
    let identity = random.random_bool(0.75).then(|| {
        let trust_domain = pick(random, &TRUST_DOMAINS).parse().unwrap();
        Identity::new(trust_domain, *pick(random, &NAMESPACES), *pick(random, &ACCOUNTS))
    });
    let destination = SocketAddr::new(ip(random), *pick(random, &PORTS));
    Connection { source_ip: ip(random), identity, destination }
}

fn ip(random: &mut SmallRng) -> IpAddr {
    pick(random, &IPS).parse().unwrap()
}

fn policy(random: &mut SmallRng, leaning: Leaning, namespace: &str) -> Authorization {
    let denies = match leaning {
        Leaning::Open => 0.3,
        Leaning::Denied => 0.9,
        Leaning::NoneAllowed => 0.05,
        Leaning::Missing => 0.2,
    };
    let action = if random.random_bool(denies) { Action::Deny } else { Action::Allow };
    // How often a condition is left out decides how often a policy matches.
    let is_loose = match leaning {
        Leaning::Open => action == Action::Allow,
        Leaning::Denied => action == Action::Deny,
        Leaning::NoneAllowed | Leaning::Missing => false,
    };
    let mut key = key(random);
    if random.random_bool(0.5) {
        key.namespace = Arc::from(namespace);
    }
    Authorization {
        key,
        scope: *pick(random, &[Scope::Global, Scope::Namespace, Scope::WorkloadSelector]),
        action,
        dry_run: random.random_bool(0.15),
        rules: (0..random.random_range(if is_loose { 1..4 } else { 0..3 })).map(|_| rule(random, is_loose)).collect(),
    }
}

fn rule(random: &mut SmallRng, is_loose: bool) -> Rule {
    let is_empty = random.random_bool(if is_loose { 0.12 } else { 0.01 });
    let count = if is_empty { 0 } else { random.random_range(if is_loose { 1..3 } else { 1..4 }) };
    Rule { clauses: (0..count).map(|_| clause(random, is_loose)).collect() }
}

fn clause(random: &mut SmallRng, is_loose: bool) -> Clause {
    let is_empty = random.random_bool(0.05);
    let count = if is_empty { 0 } else { random.random_range(if is_loose { 1..5 } else { 1..3 }) };
    Clause { matches: (0..count).map(|_| one(random)).collect() }
}

/// One to three attributes, or none at times.
fn one(random: &mut SmallRng) -> Match {
    let mut one = Match::default();
    for _ in 0..*pick(random, &[0, 1, 1, 1, 2, 2, 3]) {
        match random.random_range(0..12) {
            0 => one.namespaces = list(random, namespace_match),
            1 => one.not_namespaces = list(random, namespace_match),
            2 => one.principals = list(random, principal_match),
            3 => one.not_principals = list(random, principal_match),
            4 => one.source_ips = list(random, range),
            5 => one.not_source_ips = list(random, range),
            6 => one.destination_ips = list(random, range),
            7 => one.not_destination_ips = list(random, range),
            8 => one.destination_ports = list(random, |random| *pick(random, &PORTS)),
            9 => one.not_destination_ports = list(random, |random| *pick(random, &PORTS)),
            10 => one.service_accounts = list(random, account),
            _ => one.not_service_accounts = list(random, account),
        }
    }
    one
}

fn list<T>(random: &mut SmallRng, item: impl Fn(&mut SmallRng) -> T) -> Vec<T> {
    (0..random.random_range(1..3)).map(|_| item(random)).collect()
}

fn namespace_match(random: &mut SmallRng) -> StringMatch {
    let text = *pick(random, &["a", "ab", "b", ""]);
    string_match(random, text.to_owned())
}

/// Parts of principals, and now and then what is never one because of its scheme.
fn principal_match(random: &mut SmallRng) -> StringMatch {
    let (trust_domain, namespace) = (*pick(random, &TRUST_DOMAINS), *pick(random, &NAMESPACES));
    let account = *pick(random, &ACCOUNTS);
    let whole = format!("{trust_domain}/ns/{namespace}/sa/{account}");
    match random.random_range(0..8) {
        0 => StringMatch::Presence,
        1 | 2 => StringMatch::Exact(Arc::from(whole)),
        3 => StringMatch::Exact(Arc::from(format!("spiffe://{whole}"))),
        4 => StringMatch::Prefix(Arc::from(format!("{trust_domain}/ns/{namespace}"))),
        5 => StringMatch::Prefix(Arc::from(trust_domain)),
        6 => StringMatch::Suffix(Arc::from(format!("/sa/{account}"))),
        _ => StringMatch::Suffix(Arc::from(account)),
    }
}

fn string_match(random: &mut SmallRng, text: String) -> StringMatch {
    match random.random_range(0..4) {
        0 => StringMatch::Exact(Arc::from(text)),
        1 => StringMatch::Prefix(Arc::from(text)),
        2 => StringMatch::Suffix(Arc::from(text)),
        _ => StringMatch::Presence,
    }
}

fn range(random: &mut SmallRng) -> Cidr {
    let ip = ip(random);
    let length = match ip {
        IpAddr::V4(_) => *pick(random, &[0, 8, 9, 30, 31, 32]),
        IpAddr::V6(_) => *pick(random, &[0, 64, 128]),
    };
    Cidr::new(ip, length).unwrap()
}

fn account(random: &mut SmallRng) -> ServiceAccountMatch {
    ServiceAccountMatch {
        namespace: Arc::from(*pick(random, &NAMESPACES)),
        service_account: Arc::from(*pick(random, &ACCOUNTS)),
    }
}
