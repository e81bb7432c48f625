//! Verdicts, and what explains them.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::json;
use types::Cidr;

use super::*;
use crate::example::Asked;
use crate::{HeaderMatch, HeaderMatchKind, MetadataMatch, Pattern, TextMatch, ValueMatch};

/// A request of somebody with a certificate, who asked for a name.
fn asked(path: &str) -> Asked {
    let mut asked = Asked::new("reviews:80", path);
    asked.connection.source = "10.0.0.1:40000".parse().unwrap();
    asked.connection.destination = "10.96.0.2:80".parse().unwrap();
    asked.connection.principal = Some("spiffe://td/ns/shop/sa/web".parse().unwrap());
    asked.connection.server_name = Some("a.example".into());
    asked
}

fn see<T>(asked: &Asked, look: impl FnOnce(&Subject<'_>) -> T) -> T {
    look(&Subject::request(&asked.request(), "192.0.2.1".parse().unwrap()))
}

fn header(name: &str, kind: HeaderMatchKind) -> Condition {
    Condition::Header(HeaderMatch { name: name.into(), kind, inverts: false, treats_missing_as_empty: false })
}

fn method(name: &str) -> Condition {
    header(":method", HeaderMatchKind::Text(TextMatch::exact(name)))
}

fn not(condition: Condition) -> Condition {
    Condition::Not(Box::new(condition))
}

fn range(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn admin(inverts: bool) -> Condition {
    let value = ValueMatch::ListWith(Box::new(ValueMatch::Text(TextMatch::exact("admin"))));
    Condition::Metadata(MetadataMatch { filter: "jwt".into(), path: vec!["groups".into()], value, inverts })
}

fn policy(permissions: Vec<Condition>, principals: Vec<Condition>) -> Policy {
    Policy { permissions, principals }
}

fn rules<const N: usize>(action: Action, policies: [(&str, Policy); N]) -> Rules {
    Rules { action, policies: policies.into_iter().map(|(name, policy)| (name.into(), policy)).collect() }
}

/// Whether a condition is met by a request, and by the same connection alone.
fn met(condition: &Condition, asked: &Asked) -> [bool; 2] {
    [see(asked, |subject| condition.matches(subject)), condition.matches(&Subject::connection(&asked.connection))]
}

#[test]
fn conditions_about_connections_hold_for_requests_too() {
    let asked = asked("/");
    let spiffe = || TextMatch::exact("spiffe://td/ns/shop/sa/web");
    let state = |key: &str| Condition::FilterState { key: key.into(), text: spiffe() };
    for (condition, expected) in [
        (Condition::Any, true),
        (Condition::DestinationIp(range("10.96.0.0/16")), true),
        (Condition::DestinationIp(range("10.0.0.1")), false),
        (Condition::DestinationPort(80..=80), true),
        (Condition::DestinationPort(1..=79), false),
        (Condition::SourceIp(range("10.0.0.1")), true),
        (Condition::SourceIp(range("192.0.2.1")), false),
        (Condition::RequestedServerName(TextMatch::exact("a.example")), true),
        (Condition::RequestedServerName(TextMatch::exact("")), false),
        (Condition::Authenticated(None), true),
        (Condition::Authenticated(Some(spiffe())), true),
        (Condition::Authenticated(Some(TextMatch::exact("td/ns/shop/sa/web"))), false),
        (state("io.istio.peer_principal"), true),
        (state("other"), false),
        (Condition::And(vec![]), true),
        (Condition::Or(vec![]), false),
    ] {
        assert_eq!(met(&condition, &asked), [expected; 2], "{condition:?}");
        assert_eq!(met(&not(condition), &asked), [!expected; 2]);
    }
}

#[test]
fn nobody_is_not_somebody() {
    let mut asked = asked("/");
    asked.connection.principal = None;
    asked.connection.server_name = None;
    let anybody = Pattern::new(".*").map(TextMatch::Pattern).unwrap();
    assert_eq!(met(&Condition::Authenticated(None), &asked), [false; 2]);
    assert_eq!(met(&Condition::Authenticated(Some(anybody.clone())), &asked), [false; 2]);
    let state = Condition::FilterState { key: "io.istio.peer_principal".into(), text: anybody };
    assert_eq!(met(&state, &asked), [false; 2]);
    assert_eq!(met(&Condition::RequestedServerName(TextMatch::exact("")), &asked), [true; 2]);
}

#[test]
fn a_connection_alone_has_nothing_that_a_request_has() {
    let mut asked = asked("/a/b?c#d");
    asked.metadata.set("jwt", json!({ "groups": ["dev", "admin"] }));
    for condition in [
        method("GET"),
        Condition::UrlPath(TextMatch::exact("/a/b")),
        Condition::UriTemplate(PathTemplate::parse("/a/*").unwrap()),
        admin(false),
    ] {
        assert_eq!(met(&condition, &asked), [true, false], "{condition:?}");
        assert_eq!(met(&not(condition), &asked), [false, true]);
    }
    // An absent header is found where that is asked for, as in empty headers; so is metadata that is not so.
    assert_eq!(met(&header(":method", HeaderMatchKind::Present(false)), &asked), [false, true]);
    assert_eq!(met(&admin(true), &asked), [false, true]);
    assert_eq!(met(&Condition::UriTemplate(PathTemplate::parse("/b/*").unwrap()), &asked), [false; 2]);
}

#[test]
fn the_address_behind_proxies_is_that_of_the_request() {
    let asked = asked("/");
    assert_eq!(met(&Condition::RemoteIp(range("192.0.2.0/24")), &asked), [true, false]);
    assert_eq!(met(&Condition::RemoteIp(range("10.0.0.0/24")), &asked), [false, true]);
}

#[test]
fn the_action_says_what_a_match_means() {
    let asked = asked("/");
    for (action, expected) in
        [(Action::Allow, [true, false]), (Action::Deny, [false, true]), (Action::Log, [true, true])]
    {
        let allowed = ["GET", "PUT"].map(|name| {
            let rules = rules(action, [("p", policy(vec![method(name)], vec![Condition::Any]))]);
            see(&asked, |subject| rules.evaluate(subject).is_allowed)
        });
        assert_eq!(allowed, expected, "{action:?}");
        let empty = see(&asked, |subject| rules(action, []).evaluate(subject).is_allowed);
        assert_eq!(empty, action != Action::Allow);
    }
}

#[test]
fn the_first_policy_by_name_is_told() {
    let any = || policy(vec![Condition::Any], vec![Condition::Any]);
    let none = policy(vec![Condition::Any], vec![method("PUT")]);
    let rules = rules(Action::Deny, [("c", any()), ("b b", any()), ("a", none)]);
    see(&asked("/"), |subject| {
        let verdict = rules.evaluate(subject);
        assert_eq!(verdict, Verdict { is_allowed: false, matched: Some("b b"), action: Action::Deny });
        assert_eq!(verdict.denial_details(), "rbac_access_denied_matched_policy[b_b]");
        assert_eq!(rules.explain(subject), Explanation::Matched("b b".into()));
        assert_eq!(rules.explain(subject).to_string(), "policy b b matches");
    });
    let verdict = Verdict { is_allowed: false, matched: None, action: Action::Allow };
    assert_eq!(verdict.denial_details(), "rbac_access_denied_matched_policy[none]");
}

#[test]
fn a_policy_needs_one_permission_and_one_principal() {
    let is_for = |permissions, principals| {
        let rules = rules(Action::Allow, [("p", policy(permissions, principals))]);
        see(&asked("/"), |subject| rules.evaluate(subject).is_allowed)
    };
    let (yes, no) = (|| method("GET"), || method("PUT"));
    assert!(is_for(vec![no(), yes()], vec![no(), yes()]));
    assert!(!is_for(vec![no(), yes()], vec![no()]));
    assert!(!is_for(vec![no()], vec![yes()]));
    assert!(!is_for(vec![], vec![yes()]));
    assert!(!is_for(vec![yes()], vec![]));
}

/// What is told about a policy with this permission and principal that is for nothing here.
fn told(permission: Condition, principal: Condition) -> String {
    let mut asked = asked("/a?b");
    asked.headers.insert("authorization", HeaderValue::from_static("Bearer token"));
    asked.metadata.set("jwt", json!({ "groups": ["dev"] }));
    let rules = rules(Action::Allow, [("ns[shop]-policy[get]-rule[0]", policy(vec![permission], vec![principal]))]);
    let told = see(&asked, |subject| rules.explain(subject).to_string());
    told.strip_prefix("shop/get rule[0] ").unwrap_or(&told).to_owned()
}

#[test]
fn what_is_missed_is_told() {
    let all = |conditions| Condition::And(conditions);
    let any = |conditions| Condition::Or(conditions);
    let to = |condition| told(all(vec![Condition::Any, condition]), Condition::Any);
    let text = |text: &str| HeaderMatchKind::Text(TextMatch::exact(text));
    for (found, expected) in [
        (to(any(vec![method("PUT"), method("DELETE")])), "to[0].methods: saw GET, want one of [PUT, DELETE]"),
        (to(not(any(vec![method("GET")]))), "to[0].methods: saw GET, want none of [GET]"),
        (to(header("Host", text("a"))), "to[0].hosts: saw reviews:80, want one of [a]"),
        (to(header("x-a", HeaderMatchKind::Present(true))), "to[0].headers[x-a]: saw nothing, want one of [present]"),
        (to(header("Authorization", text("x"))), "to[0].headers[authorization]: saw a secret, want one of [x]"),
        (to(Condition::UrlPath(TextMatch::prefix("/b"))), "to[0].paths: saw /a, want one of [/b*]"),
        (to(Condition::UriTemplate(PathTemplate::parse("/b/*").unwrap())), "to[0].paths: saw /a, want one of [/b/*]"),
        (to(Condition::DestinationPort(81..=81)), "to[0].ports: saw 80, want one of [81]"),
        (to(Condition::DestinationPort(1..=9)), "to[0].ports: saw 80, want one of [1-9]"),
        (
            to(Condition::DestinationIp(range("10.0.0.0/24"))),
            "to[0].destination.ip: saw 10.96.0.2, want one of [10.0.0.0/24]",
        ),
        (to(admin(false)), "to[0].metadata[jwt/groups]: saw [\"dev\"], want one of [admin]"),
        (to(not(Condition::Any)), "to[0].any: saw any, want none of [any]"),
    ] {
        assert_eq!(found, expected);
    }
    let from = |condition| told(Condition::Any, condition);
    let web = "spiffe://td/ns/shop/sa/web";
    let principal = || TextMatch::Suffix { text: "/sa/x".into(), ignores_case: false };
    assert_eq!(
        from(Condition::Authenticated(Some(principal()))),
        format!("from[0].principals: saw {web}, want one of [*/sa/x]")
    );
    let state = |key: &str| Condition::FilterState { key: key.into(), text: principal() };
    assert_eq!(from(state("io.istio.peer_principal")), format!("from[0].principals: saw {web}, want one of [*/sa/x]"));
    assert_eq!(from(state("k")), "from[0].state[k]: saw nothing, want one of [*/sa/x]");
    assert_eq!(
        from(Condition::SourceIp(range("10.0.0.9"))),
        "from[0].source.ip: saw 10.0.0.1, want one of [10.0.0.9/32]"
    );
    assert_eq!(
        from(Condition::RemoteIp(range("10.0.0.9"))),
        "from[0].remote.ip: saw 192.0.2.1, want one of [10.0.0.9/32]"
    );
    let name = Condition::RequestedServerName(TextMatch::Contains { text: "b".into(), ignores_case: true });
    assert_eq!(from(name), "from[0].connection.sni: saw a.example, want one of [*b*]");
}

#[test]
fn every_policy_is_told_about() {
    let rules = rules(
        Action::Allow,
        [
            ("a", policy(vec![method("PUT")], vec![Condition::Any])),
            ("ns[n]-policy[b]-rule[1]", policy(vec![Condition::Any], vec![not(Condition::Authenticated(None))])),
            ("c", policy(vec![], vec![])),
        ],
    );
    see(&asked("/"), |subject| {
        let explanation = rules.explain(subject);
        let Explanation::Unmatched(misses) = &explanation else { panic!("{explanation}") };
        let first = Miss {
            policy: "a".into(),
            place: Place::To,
            looked_at: "methods".to_owned(),
            found: Some("GET".to_owned()),
            wanted: vec!["PUT".to_owned()],
            is_negated: false,
        };
        assert_eq!((misses.len(), &misses[0]), (2, &first));
        let text = "policy a to[0].methods: saw GET, want one of [PUT]; \
            n/b rule[1] from[0].principals: saw spiffe://td/ns/shop/sa/web, want none of [any]";
        assert_eq!(explanation.to_string(), text);
    });
    let none = self::rules(Action::Allow, []);
    assert_eq!(see(&asked("/"), |subject| none.explain(subject).to_string()), "no policy can match");
}

/// The headers of which conditions ask whether they are there.
const NAMES: [&str; 4] = ["x-a", "x-b", "x-c", "x-d"];

/// A condition, and its truth table: a bit for each of the 16 sets of headers.
fn condition() -> impl Strategy<Value = (Condition, u16)> {
    let leaf = (0_usize..5).prop_map(|index| match NAMES.get(index) {
        Some(name) => {
            let sets = (0..16).filter(|set| set >> index & 1 == 1).map(|set| 1 << set);
            (header(name, HeaderMatchKind::Present(true)), sets.sum())
        }
        None => (Condition::Any, u16::MAX),
    });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let several = || prop::collection::vec(inner.clone(), 0..4);
        let split = |pairs: Vec<(Condition, u16)>| pairs.into_iter().unzip::<_, _, Vec<_>, Vec<_>>();
        prop_oneof![
            several().prop_map(move |all| {
                let (all, tables) = split(all);
                (Condition::And(all), tables.into_iter().fold(u16::MAX, |left, right| left & right))
            }),
            several().prop_map(move |any| {
                let (any, tables) = split(any);
                (Condition::Or(any), tables.into_iter().fold(0, |left, right| left | right))
            }),
            inner.clone().prop_map(|(condition, table)| (not(condition), !table)),
        ]
    })
}

proptest! {
    #[test]
    fn conditions_are_met_as_their_truth_tables_say((permission, one) in condition(), (principal, other) in condition()) {
        let rules = rules(Action::Allow, [("p", policy(vec![permission], vec![principal]))]);
        for set in 0..16_u16 {
            let mut asked = asked("/");
            for (_, name) in NAMES.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1) {
                asked.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(""));
            }
            let (is_allowed, is_explained) = see(&asked, |subject| {
                let explained = rules.explain(subject);
                (rules.evaluate(subject).is_allowed, matches!(explained, Explanation::Matched(_)))
            });
            prop_assert_eq!(is_allowed, (one & other) >> set & 1 == 1);
            prop_assert_eq!(is_explained, is_allowed);
        }
    }
}
