//! Policies.

use policy::{Action, Match, Scope, ServiceAccountMatch, StringMatch};
use policy_wire::string_match::MatchType;

use super::*;

fn text(kind: Option<MatchType>) -> policy_wire::StringMatch {
    policy_wire::StringMatch { match_type: kind }
}

fn exact(value: &str) -> policy_wire::StringMatch {
    text(Some(MatchType::Exact(value.to_owned())))
}

fn range(bytes: &'static [u8], length: u32) -> policy_wire::Address {
    policy_wire::Address { address: Bytes::from_static(bytes), length }
}

fn account(namespace: &str, name: &str) -> policy_wire::ServiceAccountMatch {
    policy_wire::ServiceAccountMatch { namespace: namespace.to_owned(), service_account: name.to_owned() }
}

fn with_match(one_match: policy_wire::Match) -> policy_wire::Authorization {
    let clause = |matches| policy_wire::Clause { matches };
    let clauses = vec![clause(Vec::new()), clause(vec![policy_wire::Match::default(), one_match])];
    policy_wire::Authorization {
        name: "allow".to_owned(),
        namespace: "shop".to_owned(),
        rules: vec![policy_wire::Rule { clauses }],
        ..Default::default()
    }
}

#[test]
fn every_field_of_a_policy_arrives() {
    let message = policy_wire::Authorization {
        scope: 2,
        action: 1,
        dry_run: true,
        ..with_match(policy_wire::Match {
            namespaces: vec![exact("")],
            not_namespaces: vec![text(Some(MatchType::Prefix("a".to_owned())))],
            principals: vec![text(Some(MatchType::Suffix("b".to_owned())))],
            not_principals: vec![text(Some(MatchType::Presence(())))],
            source_ips: vec![range(&[10, 1, 2, 3], 8)],
            not_source_ips: vec![range(&[10, 1, 2, 3], 32)],
            destination_ips: vec![range(&[0; 16], 0)],
            not_destination_ips: vec![range(&[0x20; 16], 128)],
            destination_ports: vec![80],
            not_destination_ports: vec![65_535],
            service_accounts: vec![account("a", "b")],
            not_service_accounts: vec![account("c", "d")],
            extensions: Vec::new(),
        })
    };
    let converted = authorization(message).unwrap();
    assert_eq!(converted.key.to_string(), "shop/allow");
    assert_eq!((converted.scope, converted.action, converted.dry_run), (Scope::WorkloadSelector, Action::Deny, true));
    let clauses = &converted.rules[0].clauses;
    assert!(clauses[0].matches.is_empty(), "a clause without matches stays one: it matches everything");
    assert_eq!(clauses[1].matches[0], Match::default());
    let account =
        |namespace: &str, name: &str| ServiceAccountMatch { namespace: namespace.into(), service_account: name.into() };
    let expected = Match {
        namespaces: vec![StringMatch::Exact("".into())],
        not_namespaces: vec![StringMatch::Prefix("a".into())],
        principals: vec![StringMatch::Suffix("b".into())],
        not_principals: vec![StringMatch::Presence],
        source_ips: vec!["10.1.2.3/8".parse().unwrap()],
        not_source_ips: vec!["10.1.2.3/32".parse().unwrap()],
        destination_ips: vec!["::/0".parse().unwrap()],
        not_destination_ips: vec!["2020:2020:2020:2020:2020:2020:2020:2020/128".parse().unwrap()],
        destination_ports: vec![80],
        not_destination_ports: vec![65_535],
        service_accounts: vec![account("a", "b")],
        not_service_accounts: vec![account("c", "d")],
    };
    assert_eq!(clauses[1].matches[1], expected);
}

#[test]
fn a_condition_that_is_not_understood_refuses_the_policy() {
    type Spoil = fn(&mut policy_wire::Match);
    let cases: [(Spoil, &str); 9] = [
        (|m| m.principals = vec![exact("a"), text(None)], "principals[1].match_type: not set"),
        (|m| m.not_namespaces = vec![text(None)], "not_namespaces[0].match_type: not set"),
        (|m| m.source_ips = vec![range(&[1, 2, 3], 8)], "source_ips[0].address: an address has 4 or 16 bytes, not 3"),
        (
            |m| m.not_source_ips = vec![range(&[1, 2, 3, 4], 33)],
            "not_source_ips[0].length: 33 is too long a prefix for 1.2.3.4",
        ),
        (
            |m| m.destination_ips = vec![range(&[1; 16], 129)],
            "destination_ips[0].length: 129 is too long a prefix for 101:101:101:101:101:101:101:101",
        ),
        (|m| m.destination_ports = vec![80, 65_536], "destination_ports[1]: 65536 is not a port"),
        (|m| m.not_destination_ports = vec![1 << 16], "not_destination_ports[0]: 65536 is not a port"),
        (|m| m.service_accounts = vec![account("a", "")], "service_accounts[0].service_account: not set"),
        (
            |m| m.extensions = vec![wire::Extension { name: "moon-phase".to_owned(), config: None }],
            "extensions: the condition \"moon-phase\" is not known",
        ),
    ];
    for (spoil, expected) in cases {
        let mut one_match = policy_wire::Match::default();
        spoil(&mut one_match);
        let error = authorization(with_match(one_match)).unwrap_err();
        assert_eq!(error.to_string(), format!("rules[0].clauses[1].matches[1].{expected}"));
    }
}

#[test]
fn a_policy_needs_a_name_and_known_scope_and_action() {
    type Spoil = fn(&mut policy_wire::Authorization);
    let cases: [(Spoil, &str); 5] = [
        (|p| p.name.clear(), "name: not set"),
        (|p| p.namespace.clear(), "namespace: not set"),
        (|p| p.namespace = "a/b".to_owned(), "namespace: \"a/b\" contains a slash"),
        (|p| p.scope = 3, "scope: 3 is not a known value"),
        (|p| p.action = 2, "action: 2 is not a known value"),
    ];
    for (spoil, expected) in cases {
        let mut message = with_match(policy_wire::Match::default());
        spoil(&mut message);
        assert_eq!(authorization(message).unwrap_err().to_string(), expected);
    }
}

/// A field that no version of the message has yet: number 15, with some bytes.
const FROM_THE_FUTURE: [u8; 5] = [15 << 3 | 2, 3, b'x', b'y', b'z'];

#[test]
fn a_condition_of_a_later_version_refuses_the_policy() {
    let one_match = policy_wire::Match { principals: vec![exact("a")], ..Default::default() };
    let policy = with_match(one_match.clone());
    assert!(decode_authorization(&policy.encode_to_vec()).is_ok());

    let mut encoded = one_match.encode_to_vec();
    encoded.extend(FROM_THE_FUTURE);
    // Wraps bytes as the field of a message around them, up to the rule in the policy.
    let wrap = |number: u8, inner: Vec<u8>| [vec![number << 3 | 2, u8::try_from(inner.len()).unwrap()], inner].concat();
    let rule = |clause: u8| wrap(5, wrap(1, wrap(clause, encoded.clone())));
    let header = policy_wire::Authorization { rules: Vec::new(), ..policy.clone() }.encode_to_vec();
    for clause in [2, 1] {
        // With 1, which is no field of a clause, the match would be gone and the clause true.
        let error = decode_authorization(&[header.clone(), rule(clause)].concat()).unwrap_err();
        assert_eq!(error.to_string(), "rules[0]: holds a condition that is not known");
    }

    let mut encoded = policy.encode_to_vec();
    encoded.extend(FROM_THE_FUTURE);
    assert!(decode_authorization(&encoded).is_ok(), "what is new outside of the rules is no condition");
    let error = decode_authorization(&[0xff; 3]).unwrap_err();
    assert!(error.to_string().starts_with("message: "), "{error}");
}
