//! The order of evaluation, and what updates keep.

use types::NamespacedName;

use super::*;
use crate::{Clause, Match, Rule};

fn key(text: &str) -> NamespacedName {
    text.parse().unwrap()
}

fn connection(port: u16) -> Connection {
    Connection {
        source_ip: "10.244.1.5".parse().unwrap(),
        identity: None,
        destination: (std::net::Ipv4Addr::new(10, 244, 2, 7), port).into(),
    }
}

/// A policy that matches connections to one port; to all for port 0.
fn policy(name: &str, scope: Scope, action: Action, port: u16) -> Authorization {
    let one = Match { destination_ports: vec![port], ..Match::default() };
    let clauses = if port == 0 { vec![] } else { vec![Clause { matches: vec![one] }] };
    Authorization { key: key(name), scope, action, dry_run: false, rules: vec![Rule { clauses }] }
}

fn dry_run(policy: Authorization) -> Authorization {
    Authorization { dry_run: true, ..policy }
}

fn set(policies: impl IntoIterator<Item = Authorization>) -> PolicySet {
    PolicySet::default().with(policies, [])
}

fn reason(policies: &PolicySet, named: &[&str], port: u16) -> String {
    let named: Vec<_> = named.iter().map(|name| key(name)).collect();
    policies.evaluate("shop", &named, &connection(port)).decision.to_string()
}

#[test]
fn without_policies_everything_is_allowed() {
    let evaluation = PolicySet::default().evaluate("shop", &[], &connection(80));
    assert_eq!(evaluation, Evaluation { decision: Decision::Allow { by: None }, dry_run: vec![] });
}

#[test]
fn an_allow_policy_is_named_as_the_one_that_allowed() {
    let policies = set([
        policy("shop/a", Scope::Namespace, Action::Allow, 81),
        policy("shop/b", Scope::Namespace, Action::Allow, 80),
    ]);
    let decision = policies.evaluate("shop", &[], &connection(80)).decision;
    assert_eq!(decision, Decision::Allow { by: Some(key("shop/b")) });
}

#[test]
fn an_allow_policy_that_does_not_match_denies() {
    let policies = set([policy("shop/a", Scope::Namespace, Action::Allow, 81)]);
    assert_eq!(reason(&policies, &[], 80), "allow policies exist, but none allowed: shop/a");
    let policies = policies.with([policy("shop/b", Scope::Namespace, Action::Allow, 82)], []);
    assert_eq!(reason(&policies, &[], 80), "allow policies exist, but none allowed: shop/a and 1 more");
}

#[test]
fn a_deny_policy_wins_over_an_allow_policy() {
    let policies = set([
        policy("shop/a", Scope::Namespace, Action::Allow, 0),
        policy("shop/d", Scope::Namespace, Action::Deny, 80),
    ]);
    assert_eq!(reason(&policies, &[], 80), "explicitly denied by: shop/d");
    assert_eq!(reason(&policies, &[], 81), "allowed by: shop/a");
}

#[test]
fn a_deny_policy_that_does_not_match_leaves_open() {
    let policies = set([policy("shop/d", Scope::Namespace, Action::Deny, 81)]);
    assert_eq!(policies.evaluate("shop", &[], &connection(80)).decision, Decision::Allow { by: None });
}

#[test]
fn an_allow_policy_without_rules_denies_everything_and_a_deny_policy_without_rules_nothing() {
    let empty = |action| Authorization { rules: vec![], ..policy("shop/empty", Scope::Namespace, action, 0) };
    assert_eq!(reason(&set([empty(Action::Allow)]), &[], 80), "allow policies exist, but none allowed: shop/empty");
    assert!(set([empty(Action::Deny)]).evaluate("shop", &[], &connection(80)).decision.is_allowed());
}

#[test]
fn policies_apply_by_scope() {
    let policies = set([
        policy("root/global", Scope::Global, Action::Deny, 1),
        policy("shop/namespace", Scope::Namespace, Action::Deny, 2),
        policy("bank/namespace", Scope::Namespace, Action::Deny, 3),
        policy("shop/selector", Scope::WorkloadSelector, Action::Deny, 4),
        policy("root/selector", Scope::WorkloadSelector, Action::Deny, 5),
    ]);
    let named = ["shop/selector", "root/selector"];
    let is_denied = |port| reason(&policies, &named, port).starts_with("explicitly");
    assert_eq!([1, 2, 3, 4, 5].map(is_denied), [true, true, false, true, true]);
    let is_denied = |port| reason(&policies, &[], port).starts_with("explicitly");
    assert_eq!([1, 2, 3, 4, 5].map(is_denied), [true, true, false, false, false]);
}

#[test]
fn a_named_policy_applies_whatever_its_scope_and_only_once() {
    let foreign = set([policy("bank/namespace", Scope::Namespace, Action::Deny, 80)]);
    assert_eq!(reason(&foreign, &["bank/namespace"], 80), "explicitly denied by: bank/namespace");

    let own = set([dry_run(policy("shop/namespace", Scope::Namespace, Action::Deny, 80))]);
    assert_eq!(own.evaluate("shop", &[key("shop/namespace")], &connection(80)).dry_run.len(), 1);
}

#[test]
fn a_named_policy_that_never_arrived_denies() {
    let policies = set([policy("shop/a", Scope::Namespace, Action::Allow, 0)]);
    assert_eq!(reason(&policies, &["shop/late"], 80), "policy not received yet: shop/late");
    let arrived = policies.with([policy("shop/late", Scope::WorkloadSelector, Action::Deny, 81)], []);
    assert_eq!(reason(&arrived, &["shop/late"], 80), "allowed by: shop/a");
}

#[test]
fn an_explicit_denial_is_told_before_a_missing_policy() {
    let policies = set([policy("shop/d", Scope::Namespace, Action::Deny, 80)]);
    assert_eq!(reason(&policies, &["shop/late"], 80), "explicitly denied by: shop/d");
    assert_eq!(reason(&policies, &["shop/late"], 81), "policy not received yet: shop/late");
}

#[test]
fn a_named_policy_that_was_removed_is_skipped() {
    let policies = set([policy("shop/d", Scope::WorkloadSelector, Action::Deny, 0)]);
    assert_eq!(reason(&policies, &["shop/d"], 80), "explicitly denied by: shop/d");
    let removed = policies.with([], [key("shop/d"), key("shop/never-seen")]);
    assert!(removed.is_empty());
    let decision = removed.evaluate("shop", &[key("shop/d"), key("shop/never-seen")], &connection(80)).decision;
    assert_eq!(decision, Decision::Allow { by: None });
    let back = removed.with([policy("shop/d", Scope::WorkloadSelector, Action::Deny, 0)], []);
    assert_eq!(reason(&back, &["shop/d"], 80), "explicitly denied by: shop/d");
}

fn unreadable(name: &str, scope: Option<Scope>) -> Unreadable {
    Unreadable { key: key(name), scope, action: Some(Action::Deny) }
}

#[test]
fn a_policy_that_cannot_be_read_denies_where_it_may_apply() {
    let allowed = set([policy("shop/a", Scope::Namespace, Action::Allow, 0)]);
    let with = |name, scope| allowed.with_unreadable([unreadable(name, scope)]);
    for (policies, named, is_denied) in [
        (with("shop/p", Some(Scope::Namespace)), &[][..], true),
        (with("shop/p", None), &[], true),
        (with("root/p", Some(Scope::Global)), &[], true),
        (with("shop/p", Some(Scope::WorkloadSelector)), &["shop/p"], true),
        (with("shop/p", Some(Scope::WorkloadSelector)), &[], false),
        (with("bank/p", Some(Scope::Namespace)), &[], false),
        (with("bank/p", None), &[], false),
    ] {
        let found = reason(&policies, named, 80);
        assert_eq!(found.starts_with("policy cannot be read: "), is_denied, "{found}: {policies:?}");
        assert_eq!(policies.len(), 1, "it is no policy that could be listed");
    }
}

#[test]
fn an_allow_policy_that_cannot_be_read_allows_nobody_and_leaves_what_others_allow() {
    let may_be = |action| PolicySet::default().with_unreadable([Unreadable { action, ..unreadable("shop/p", None) }]);
    for named in [&[][..], &["shop/p"]] {
        let found = reason(&may_be(Some(Action::Allow)), named, 80);
        assert_eq!(found, "allow policies exist, but none allowed: shop/p");
    }
    let beside = [policy("shop/a", Scope::Namespace, Action::Allow, 80)];
    assert_eq!(reason(&may_be(Some(Action::Allow)).with(beside.clone(), []), &[], 80), "allowed by: shop/a");
    assert_eq!(reason(&may_be(None).with(beside, []), &[], 80), "policy cannot be read: shop/p");
}

#[test]
fn a_policy_that_cannot_be_read_keeps_its_last_good_version() {
    let good = set([policy("shop/p", Scope::Namespace, Action::Deny, 81)]);
    let spoilt = good.with_unreadable([unreadable("shop/p", Some(Scope::Namespace))]);
    assert_eq!(reason(&spoilt, &[], 80), "no allow policy applies");
    assert_eq!(reason(&spoilt, &[], 81), "explicitly denied by: shop/p");
}

#[test]
fn a_policy_that_could_not_be_read_denies_until_it_is_readable_or_removed() {
    for scope in [None, Some(Scope::Global), Some(Scope::Namespace), Some(Scope::WorkloadSelector)] {
        let spoilt = PolicySet::default().with_unreadable([unreadable("shop/p", scope)]);
        assert_eq!(reason(&spoilt, &["shop/p"], 80), "policy cannot be read: shop/p");
        let narrowed = spoilt.with_unreadable([unreadable("shop/p", Some(Scope::WorkloadSelector))]);
        assert_eq!(reason(&narrowed, &[], 80), "no allow policy applies", "{scope:?}");
        let mended = spoilt.with([policy("shop/p", Scope::Namespace, Action::Deny, 81)], []);
        assert_eq!(reason(&mended, &["shop/p"], 80), "no allow policy applies", "{scope:?}");
        let removed = spoilt.with([], [key("shop/p")]);
        assert_eq!(reason(&removed, &["shop/p"], 80), "no allow policy applies", "{scope:?}");
    }
}

#[test]
fn a_policy_that_comes_back_unreadable_is_not_taken_for_removed() {
    let removed = PolicySet::default().with([], [key("shop/p")]);
    let back = removed.with_unreadable([unreadable("shop/p", Some(Scope::WorkloadSelector))]);
    assert_eq!(reason(&back, &["shop/p"], 80), "policy cannot be read: shop/p");
}

#[test]
fn a_replaced_policy_leaves_its_old_scope() {
    let policies = set([policy("root/p", Scope::Global, Action::Deny, 0)]);
    let narrowed = policies.with([policy("root/p", Scope::Namespace, Action::Deny, 0)], []);
    assert!(narrowed.evaluate("shop", &[], &connection(80)).decision.is_allowed());
    assert!(!narrowed.evaluate("root", &[], &connection(80)).decision.is_allowed());
    let selected = narrowed.with([policy("root/p", Scope::WorkloadSelector, Action::Deny, 0)], []);
    assert!(selected.evaluate("root", &[], &connection(80)).decision.is_allowed());
    assert_eq!(selected.len(), 1);
}

#[test]
fn a_dry_run_policy_changes_nothing_but_says_what_it_would() {
    let deny = dry_run(policy("shop/d", Scope::Namespace, Action::Deny, 80));
    let evaluation = set([deny]).evaluate("shop", &[], &connection(80));
    assert_eq!(evaluation.decision, Decision::Allow { by: None });
    let would = Decision::Deny(Denial::ExplicitlyDenied(key("shop/d")));
    assert_eq!(evaluation.dry_run, [DryRun { key: key("shop/d"), decision: would }]);
}

#[test]
fn a_dry_run_allow_policy_does_not_count_as_an_allow_policy() {
    let allow = dry_run(policy("shop/a", Scope::Namespace, Action::Allow, 81));
    let evaluation = set([allow.clone()]).evaluate("shop", &[], &connection(80));
    assert_eq!(evaluation.decision, Decision::Allow { by: None });
    assert_eq!(evaluation.dry_run[0].decision, Decision::Deny(Denial::NoneAllowed { first: key("shop/a"), others: 0 }));

    let evaluation = set([allow]).evaluate("shop", &[], &connection(81));
    assert_eq!(evaluation.decision, Decision::Allow { by: None });
    assert_eq!(evaluation.dry_run[0].decision, Decision::Allow { by: Some(key("shop/a")) });
}

#[test]
fn a_dry_run_policy_does_not_rescue_what_others_deny() {
    let policies = set([
        policy("shop/d", Scope::Namespace, Action::Deny, 80),
        policy("shop/a", Scope::Namespace, Action::Allow, 81),
        dry_run(policy("shop/all", Scope::Namespace, Action::Allow, 0)),
    ]);
    let would = |port| policies.evaluate("shop", &[], &connection(port)).dry_run[0].decision.to_string();
    assert_eq!(would(80), "explicitly denied by: shop/d");
    assert_eq!(would(81), "allowed by: shop/a");
    assert_eq!(would(82), "allowed by: shop/all");
    assert_eq!(reason(&policies, &[], 82), "allow policies exist, but none allowed: shop/a");
}

#[test]
fn policies_are_listed_by_key() {
    let names = ["shop/b", "bank/z", "shop/a"];
    let policies = set(names.map(|name| policy(name, Scope::Global, Action::Deny, 80)));
    let listed: Vec<_> = policies.iter().map(|policy| policy.key.to_string()).collect();
    assert_eq!(listed, ["bank/z", "shop/a", "shop/b"]);
    assert_eq!(policies.len(), 3);
    assert!(policies.policy(&key("shop/a")).is_some());
    assert!(policies.policy(&key("shop/c")).is_none());
}

#[test]
fn an_update_shares_what_it_does_not_touch() {
    let all = (0..10_000).map(|number| {
        let name = format!("ns-{}/p-{number}", number % 100);
        policy(&name, Scope::Namespace, Action::Deny, 80)
    });
    let before = set(all);
    let after = before.with([policy("ns-7/p-7", Scope::Namespace, Action::Deny, 81)], []);
    let moved = before.iter().zip(after.iter()).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
    assert_eq!(moved, 1);
    let copied = before.namespaces.iter().filter(|(name, old)| !Arc::ptr_eq(old, &after.namespaces[*name])).count();
    assert_eq!(copied, 1);
    assert_eq!((before.len(), after.len()), (10_000, 10_000));
}

#[test]
fn an_old_snapshot_does_not_change() {
    let before = set([policy("shop/d", Scope::Namespace, Action::Deny, 80)]);
    let after = before.with([], [key("shop/d")]);
    assert_eq!(reason(&before, &[], 80), "explicitly denied by: shop/d");
    assert!(after.evaluate("shop", &[], &connection(80)).decision.is_allowed());
}

#[test]
fn removed_keys_are_remembered_up_to_a_bound_and_forgotten_on_the_safe_side() {
    let mut policies = set([policy("shop/kept", Scope::Namespace, Action::Deny, 80)]);
    let name = |number: usize| NamespacedName::new(format!("ns-{}", number % 1000), format!("p-{number}"));
    for batch in 0..20 {
        policies = policies.with([], (0..5_000).map(|number| name(batch * 5_000 + number)));
        let slots: usize = policies.namespaces.values().map(|namespace| namespace.slots.len()).sum();
        assert!(slots <= MAX_REMOVED + 1, "{slots}");
        assert_eq!(slots, policies.removed + policies.len());
    }
    let is_skipped = |number| {
        let named = [name(number)];
        policies.evaluate("elsewhere", &named, &connection(80)).decision.is_allowed()
    };
    assert!(is_skipped(99_999) && is_skipped(99_999 - MAX_REMOVED / 2 + 5_000));
    assert!(!is_skipped(0));
    assert_eq!(policies.len(), 1);
}
