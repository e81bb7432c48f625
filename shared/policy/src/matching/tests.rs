//! Each surprising rule of matching, one by one.

use std::sync::Arc;

use types::NamespacedName;

use super::*;
use crate::{Action, Scope};

fn connection() -> Connection {
    Connection {
        source_ip: "10.244.1.5".parse().unwrap(),
        identity: Some("spiffe://cluster.local/ns/shop/sa/frontend".parse().unwrap()),
        destination: "10.244.2.7:8080".parse().unwrap(),
    }
}

fn anonymous() -> Connection {
    Connection { identity: None, ..connection() }
}

fn policy(rules: Vec<Rule>) -> Authorization {
    Authorization {
        key: NamespacedName::new("shop", "policy"),
        scope: Scope::Namespace,
        action: Action::Allow,
        dry_run: false,
        rules,
    }
}

fn rule(clauses: Vec<Clause>) -> Rule {
    Rule { clauses }
}

fn clause(matches: Vec<Match>) -> Clause {
    Clause { matches }
}

fn does(one: Match, connection: &Connection) -> bool {
    policy(vec![rule(vec![clause(vec![one])])]).matches(&Subject::new(connection))
}

fn exact(text: &str) -> StringMatch {
    StringMatch::Exact(Arc::from(text))
}

fn prefix(text: &str) -> StringMatch {
    StringMatch::Prefix(Arc::from(text))
}

fn suffix(text: &str) -> StringMatch {
    StringMatch::Suffix(Arc::from(text))
}

fn hit() -> Match {
    Match { destination_ports: vec![8080], ..Match::default() }
}

fn miss() -> Match {
    Match { destination_ports: vec![81], ..Match::default() }
}

#[test]
fn a_policy_without_rules_matches_nothing() {
    assert!(!policy(vec![]).matches(&Subject::new(&connection())));
}

#[test]
fn a_rule_without_clauses_matches_everything() {
    assert!(policy(vec![rule(vec![])]).matches(&Subject::new(&connection())));
    assert!(policy(vec![rule(vec![clause(vec![miss()])]), rule(vec![])]).matches(&Subject::new(&anonymous())));
}

#[test]
fn a_clause_without_matches_is_true() {
    assert!(policy(vec![rule(vec![clause(vec![])])]).matches(&Subject::new(&connection())));
    assert!(policy(vec![rule(vec![clause(vec![]), clause(vec![hit()])])]).matches(&Subject::new(&connection())));
    assert!(!policy(vec![rule(vec![clause(vec![]), clause(vec![miss()])])]).matches(&Subject::new(&connection())));
}

#[test]
fn a_match_without_attributes_is_false() {
    assert!(!does(Match::default(), &connection()));
    let beside_a_hit = policy(vec![rule(vec![clause(vec![Match::default(), hit()])])]);
    assert!(beside_a_hit.matches(&Subject::new(&connection())));
}

#[test]
fn rules_are_alternatives_and_clauses_are_conditions() {
    let (yes, no) = (|| clause(vec![miss(), hit()]), || clause(vec![miss(), miss()]));
    assert!(policy(vec![rule(vec![no()]), rule(vec![yes()])]).matches(&Subject::new(&connection())));
    assert!(!policy(vec![rule(vec![no(), yes()])]).matches(&Subject::new(&connection())));
    assert!(policy(vec![rule(vec![yes(), yes()])]).matches(&Subject::new(&connection())));
}

#[test]
fn all_attributes_of_a_match_must_hold() {
    let both = |port| Match {
        destination_ports: vec![port],
        source_ips: vec!["10.244.0.0/16".parse().unwrap()],
        ..Match::default()
    };
    assert!(does(both(8080), &connection()));
    assert!(!does(both(81), &connection()));
}

#[test]
fn a_negative_hit_wins_over_a_positive_one() {
    let one = Match { destination_ports: vec![8080], not_destination_ports: vec![8080], ..Match::default() };
    assert!(!does(one, &connection()));
}

#[test]
fn a_principal_is_compared_without_its_scheme() {
    let one = |text| Match { principals: vec![text], ..Match::default() };
    assert!(does(one(exact("cluster.local/ns/shop/sa/frontend")), &connection()));
    assert!(!does(one(exact("spiffe://cluster.local/ns/shop/sa/frontend")), &connection()));
    assert!(does(one(prefix("cluster.local/ns/shop/")), &connection()));
    assert!(!does(one(prefix("spiffe")), &connection()));
    assert!(does(one(suffix("/sa/frontend")), &connection()));
    assert!(!does(one(suffix("/sa/front")), &connection()));
    assert!(does(one(StringMatch::Presence), &connection()));
}

#[test]
fn nobody_is_no_principal_whatever_is_asked() {
    for text in [exact(""), prefix(""), suffix(""), StringMatch::Presence] {
        assert!(!does(Match { principals: vec![text.clone()], ..Match::default() }, &anonymous()), "{text:?}");
        // The negative list has no hit either, which is how STRICT mTLS finds plaintext.
        assert!(does(Match { not_principals: vec![text.clone()], ..Match::default() }, &anonymous()), "{text:?}");
    }
}

#[test]
fn the_namespace_of_nobody_is_the_empty_text() {
    let one = |text| Match { namespaces: vec![text], ..Match::default() };
    assert!(does(one(exact("")), &anonymous()));
    assert!(does(one(prefix("")), &anonymous()));
    assert!(!does(one(StringMatch::Presence), &anonymous()));
    assert!(does(one(StringMatch::Presence), &connection()));
    assert!(does(one(exact("shop")), &connection()));
    assert!(!does(one(exact("sho")), &connection()));
    assert!(does(Match { not_namespaces: vec![exact("shop")], ..Match::default() }, &anonymous()));
    assert!(!does(Match { not_namespaces: vec![exact("shop")], ..Match::default() }, &connection()));
    assert!(!does(Match { not_namespaces: vec![exact("")], ..Match::default() }, &anonymous()));
}

#[test]
fn a_service_account_counts_in_any_trust_domain() {
    let account = |namespace: &str, name: &str| ServiceAccountMatch {
        namespace: Arc::from(namespace),
        service_account: Arc::from(name),
    };
    let one = |account| Match { service_accounts: vec![account], ..Match::default() };
    let elsewhere =
        Connection { identity: Some("spiffe://other/ns/shop/sa/frontend".parse().unwrap()), ..connection() };
    assert!(does(one(account("shop", "frontend")), &connection()));
    assert!(does(one(account("shop", "frontend")), &elsewhere));
    assert!(!does(one(account("shop", "cart")), &connection()));
    assert!(!does(one(account("other", "frontend")), &connection()));
    assert!(!does(one(account("", "")), &anonymous()));
    let not = Match { not_service_accounts: vec![account("shop", "frontend")], ..Match::default() };
    assert!(does(not.clone(), &anonymous()));
    assert!(!does(not, &connection()));
}

#[test]
fn addresses_are_compared_by_range() {
    let source = |range: &str| Match { source_ips: vec![range.parse().unwrap()], ..Match::default() };
    let destination = |range: &str| Match { destination_ips: vec![range.parse().unwrap()], ..Match::default() };
    assert!(does(source("10.244.1.0/24"), &connection()));
    assert!(!does(source("10.244.2.0/24"), &connection()));
    assert!(does(source("0.0.0.0/0"), &connection()));
    assert!(!does(source("::/0"), &connection()));
    assert!(does(destination("10.244.2.0/24"), &connection()));
    assert!(!does(destination("10.244.1.0/24"), &connection()));
    let not = Match { not_source_ips: vec!["10.244.1.5/32".parse().unwrap()], ..Match::default() };
    assert!(!does(not, &connection()));
    let not = Match { not_destination_ips: vec!["10.244.1.5/32".parse().unwrap()], ..Match::default() };
    assert!(does(not, &connection()));
}

#[test]
fn ipv4_in_ipv6_clothing_does_not_slip_through() {
    let mapped = Connection {
        source_ip: "::ffff:10.244.1.5".parse().unwrap(),
        destination: "[::ffff:10.244.2.7]:8080".parse().unwrap(),
        ..connection()
    };
    let both = Match {
        source_ips: vec!["10.244.1.5/32".parse().unwrap()],
        destination_ips: vec!["10.244.2.7/32".parse().unwrap()],
        ..Match::default()
    };
    assert!(does(both, &mapped));
}
