//! RBAC rules: random ones, and random requests.

use std::collections::HashMap;

use envoy_types::pb::envoy::config::core::v3::{CidrRange, DataSource, TypedExtensionConfig, data_source::Specifier};
use envoy_types::pb::envoy::config::rbac::v3::{
    Permission, Policy, Principal, Rbac, permission, permission::Rule, principal, principal::Identifier, rbac::Action,
};
use envoy_types::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use envoy_types::pb::envoy::config::route::v3::route_match::PathSpecifier;
use envoy_types::pb::envoy::config::route::v3::{
    DirectResponseAction, HeaderMatcher, Route, RouteConfiguration, RouteMatch, VirtualHost, route,
};
use envoy_types::pb::envoy::extensions::filters::http::rbac::v3::Rbac as Filter;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{
    PathMatcher, RegexMatcher, StringMatcher, path_matcher, string_matcher::MatchPattern,
};
use envoy_types::pb::google::protobuf::UInt32Value;
use http::Method;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use routing::rbac::Subject;

use crate::ask::Ask;
use crate::peer::{self, Envoy, filter, packed};

/// Sets of rules that are compared, and requests to each.
const RULES: u64 = 80;
const REQUESTS: usize = 100;

const PATHS: [&str; 12] = [
    "/",
    "/v1",
    "/v1/x",
    "/v1/x/y",
    "/v1?x=/admin",
    "/admin",
    "/admin/",
    "/ADMIN",
    "/v1/admin/x",
    "/v1//x",
    "/a%20b",
    "/v1/x.y",
];
const TEMPLATES: [&str; 7] = ["/v1/*", "/v1/**", "/{version}/x", "/**", "/v1/*/y", "/{name=v1/*}/y", "/*"];
const VALUES: [&str; 6] = ["", "a", "abc", "A", "a,b", "é"];

#[test]
fn requests_are_allowed_and_denied_as_envoy_does_it() {
    let mut random = SmallRng::seed_from_u64(3);
    let all: Vec<Rbac> = (0..RULES).map(|_| rules(&mut random)).collect();
    let managers: Vec<HttpConnectionManager> = all.iter().map(manager).collect();
    let Some(envoy) = Envoy::start(&managers) else { return };
    let mut seen = [0; 2];
    for (index, wire) in all.iter().enumerate() {
        let rules = envoy::rules(wire).unwrap();
        let mut client = envoy.connect(index);
        for _ in 0..REQUESTS {
            let ask = ask(&mut random);
            let theirs = ask.send(&mut client);
            let request = ask.request();
            let subject = Subject::request(&request, request.connection.source_ip());
            let is_allowed = rules.evaluate(&subject).is_allowed;
            let status = if is_allowed { 218 } else { 403 };
            assert_eq!(theirs.status, status, "{ask:?}: {}\n{wire:#?}", rules.explain(&subject));
            if !is_allowed {
                assert_eq!(theirs.body, "RBAC: access denied");
            }
            seen[usize::from(is_allowed)] += 1;
        }
    }
    println!("{seen:?} denied and allowed");
    assert!(seen.iter().all(|count| *count > 1000), "{seen:?}");
}

/// A random request.
fn ask(random: &mut SmallRng) -> Ask {
    let header = |random: &mut SmallRng| {
        let name = *["x-a", "x-b"].choose(random).unwrap();
        (name.to_owned(), (*VALUES.choose(random).unwrap()).to_owned())
    };
    let headers = (0..random.random_range(0..4)).map(|_| header(random)).collect();
    let method = [Method::GET, Method::DELETE].choose(random).unwrap();
    Ask::new(method, ["a.b", "A.B:80", "c"].choose(random).unwrap(), PATHS.choose(random).unwrap(), headers)
}

fn manager(rules: &Rbac) -> HttpConnectionManager {
    let body = DataSource { specifier: Some(Specifier::InlineString("passed".to_owned())), ..DataSource::default() };
    let respond = DirectResponseAction { status: 218, body: Some(body), ..DirectResponseAction::default() };
    let matches = RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() };
    let table = RouteConfiguration {
        virtual_hosts: vec![VirtualHost {
            name: "all".to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                r#match: Some(matches),
                action: Some(route::Action::DirectResponse(respond)),
                ..Route::default()
            }],
            ..VirtualHost::default()
        }],
        ..RouteConfiguration::default()
    };
    let rbac = Filter { rules: Some(rules.clone()), ..Filter::default() };
    let filters =
        vec![filter("envoy.filters.http.rbac", &rbac), filter("envoy.filters.http.router", &Router::default())];
    peer::manager(&table, filters)
}

fn rules(random: &mut SmallRng) -> Rbac {
    let policies: HashMap<String, Policy> = (0..random.random_range(0..3))
        .map(|index| {
            let policy = Policy {
                permissions: (0..random.random_range(1..3)).map(|_| permission(random, 3)).collect(),
                principals: (0..random.random_range(1..3)).map(|_| principal(random, 3)).collect(),
                ..Policy::default()
            };
            (format!("policy-{index}"), policy)
        })
        .collect();
    let action = *[Action::Allow, Action::Deny, Action::Deny, Action::Log].choose(random).unwrap();
    Rbac { action: action.into(), policies, ..Rbac::default() }
}

fn permission(random: &mut SmallRng, depth: u32) -> Permission {
    let set = |random: &mut SmallRng| permission::Set {
        rules: (0..random.random_range(1..3)).map(|_| permission(random, depth - 1)).collect(),
    };
    let rule = match random.random_range(if depth == 0 { 3 } else { 0 }..9) {
        0 => Rule::AndRules(set(random)),
        1 => Rule::OrRules(set(random)),
        2 => Rule::NotRule(Box::new(permission(random, depth - 1))),
        3 => Rule::Any(true),
        4 | 5 => Rule::Header(header(random)),
        6 => Rule::UriTemplate(template(random)),
        7 => Rule::RequestedServerName(text(random)),
        _ => Rule::UrlPath(path(random)),
    };
    Permission { rule: Some(rule) }
}

fn principal(random: &mut SmallRng, depth: u32) -> Principal {
    let set = |random: &mut SmallRng| principal::Set {
        ids: (0..random.random_range(1..3)).map(|_| principal(random, depth - 1)).collect(),
    };
    let identifier = match random.random_range(if depth == 0 { 3 } else { 0 }..9) {
        0 => Identifier::AndIds(set(random)),
        1 => Identifier::OrIds(set(random)),
        2 => Identifier::NotId(Box::new(principal(random, depth - 1))),
        3 | 4 => Identifier::Any(true),
        5 => Identifier::Header(header(random)),
        // A pipe is an address of no family.
        6 => Identifier::DirectRemoteIp(CidrRange {
            address_prefix: "10.0.0.0".to_owned(),
            prefix_len: Some(UInt32Value { value: 8 }),
        }),
        7 => Identifier::Authenticated(principal::Authenticated::default()),
        _ => Identifier::UrlPath(path(random)),
    };
    Principal { identifier: Some(identifier) }
}

fn header(random: &mut SmallRng) -> HeaderMatcher {
    HeaderMatcher {
        name: (*["x-a", "x-b", ":method", ":authority", "host", ":path"].choose(random).unwrap()).to_owned(),
        invert_match: random.random_bool(0.2),
        treat_missing_header_as_empty: random.random_bool(0.2),
        header_match_specifier: Some(match random.random_range(0..4) {
            0 => HeaderMatchSpecifier::PresentMatch(random.random_bool(0.7)),
            _ => HeaderMatchSpecifier::StringMatch(text(random)),
        }),
    }
}

fn path(random: &mut SmallRng) -> PathMatcher {
    PathMatcher { rule: Some(path_matcher::Rule::Path(text(random))) }
}

fn template(random: &mut SmallRng) -> TypedExtensionConfig {
    let template = UriTemplateMatchConfig { path_template: (*TEMPLATES.choose(random).unwrap()).to_owned() };
    TypedExtensionConfig { name: "uri_template".to_owned(), typed_config: Some(packed(&template)) }
}

fn text(random: &mut SmallRng) -> StringMatcher {
    let some = ["a", "/v1", "/admin", "GET", "abc", "a.b", "/v1/x", "é", "b"].choose(random).unwrap().to_string();
    let pattern = match random.random_range(0..6) {
        0 => MatchPattern::Prefix(some),
        1 => MatchPattern::Suffix(some),
        2 => MatchPattern::Contains(some),
        3 => MatchPattern::SafeRegex(RegexMatcher { regex: format!("{some}.?.*"), ..RegexMatcher::default() }),
        _ => MatchPattern::Exact(some),
    };
    let ignore_case = !matches!(pattern, MatchPattern::SafeRegex(_)) && random.random_bool(0.3);
    StringMatcher { ignore_case, match_pattern: Some(pattern) }
}
